"""The bytes that a program moves, for a text that can be counted by hand."""

import pytest

from bert_pretrain.compilation import hlo_text, traffic

# An array of 8 x 128 float32 is one tile of 4,096 bytes.
TEXT = """\
HloModule step, is_scheduled=true

%fused (param_0: f32[8,128], param_1: f32[8,128]) -> f32[8,128] {
  %param_0 = f32[8,128]{1,0:T(8,128)} parameter(0)
  %param_1 = f32[8,128]{1,0:T(8,128)S(1)} parameter(1)
  ROOT %add.0 = f32[8,128]{1,0:T(8,128)} add(%param_0, %param_1)
}

%rows (param_0.1: f32[1000,128], param_1.1: s32[8]) -> f32[8,128] {
  %param_0.1 = f32[1000,128]{1,0:T(8,128)} parameter(0)
  %param_1.1 = s32[8]{0:T(128)} parameter(1)
  ROOT %gather = f32[8,128]{1,0:T(8,128)} gather(%param_0.1, %param_1.1), \
slice_sizes={1,128}
}

%in_place (param_0.2: f32[64,128], param_1.2: f32[8,128]) -> f32[64,128] {
  %param_0.2 = f32[64,128]{1,0:T(8,128)} parameter(0)
  %param_1.2 = f32[8,128]{1,0:T(8,128)} parameter(1)
  %zero = s32[]{:T(128)} constant(0)
  ROOT %dus = f32[64,128]{1,0:T(8,128)} dynamic-update-slice(%param_0.2, \
%param_1.2, %zero, %zero)
}

%body (arg: (s32[], f32[8,128])) -> (s32[], f32[8,128]) {
  %arg = (s32[]{:T(128)S(6)}, f32[8,128]{1,0:T(8,128)}) parameter(0)
  %i = s32[]{:T(128)S(6)} get-tuple-element(%arg), index=0
  %x = f32[8,128]{1,0:T(8,128)} get-tuple-element(%arg), index=1
  %twice = f32[8,128]{1,0:T(8,128)} add(%x, %x)
  ROOT %out = (s32[]{:T(128)S(6)}, f32[8,128]{1,0:T(8,128)}) tuple(%i, %twice)
}

%condition (arg.1: (s32[], f32[8,128])) -> pred[] {
  %arg.1 = (s32[]{:T(128)S(6)}, f32[8,128]{1,0:T(8,128)}) parameter(0)
  %i.1 = s32[]{:T(128)S(6)} get-tuple-element(%arg.1), index=0
  %end = s32[]{:T(128)} constant(5)
  ROOT %less = pred[]{:T(512)S(6)} compare(%i.1, %end), direction=LT
}

%update (arg.2: f32[8,128]) -> f32[8,128] {
  %arg.2 = f32[8,128]{1,0:T(8,128)} parameter(0)
  ROOT %negate = f32[8,128]{1,0:T(8,128)} negate(%arg.2)
}

%keep (arg.3: f32[8,128]) -> f32[8,128] {
  ROOT %arg.3 = f32[8,128]{1,0:T(8,128)} parameter(0)
}

"""
PARAMETERS = """\
ENTRY %main (a: f32[8,128], t: f32[1000,128]) -> f32[8,128] {
  %a = f32[8,128]{1,0:T(8,128)} parameter(0), metadata={op_name="a"}
  %t = f32[1000,128]{1,0:T(8,128)} parameter(1)
  %s = s32[8]{0:T(128)} parameter(2)
  %w = f32[64,128]{1,0:T(8,128)} parameter(3)
  %p = pred[]{:T(512)S(6)} parameter(4)
  %i0 = s32[]{:T(128)S(6)} constant(0)
"""
TILE = 8 * 128 * 4
A_TILE = "f32[8,128]{1,0:T(8,128)}"
FAST = "f32[8,128]{1,0:T(8,128)S(1)}"


def measure(*lines):
    body = "".join(f"  {line}\n" for line in lines)
    return traffic.measure(f"{TEXT}{PARAMETERS}{body}}}\n")


@pytest.mark.parametrize(
    "lines, expected",
    [
        ([f"ROOT %r = {A_TILE} add(%a, %a)"], 3 * TILE),
        ([f"ROOT %r = {A_TILE} bitcast(%a)"], 0),
        # A tile is moved whole.
        (["ROOT %r = f32[3,5]{1,0:T(8,128)} broadcast(%i0)"], TILE),
        (["ROOT %r = bf16[9,5]{0,1:T(8,128)(2,1)} broadcast(%i0)"], TILE // 2),
        # Fetched once, and read from fast memory.
        (
            [
                f"%c = ({FAST}, {A_TILE}, u32[]{{:S(2)}}) copy-start(%a)",
                f"%d = {FAST} copy-done(%c)",
                f"ROOT %r = {A_TILE} fusion(%a, %d), kind=kLoop, calls=%fused",
            ],
            TILE + 2 * TILE,
        ),
        (
            [
                f"%c = ((f32[64,128]{{1,0:T(8,128)}}), {FAST}, "
                "s32[]{:S(2)}) slice-start(%w), slice={[0:8], [0:128]}",
                f"ROOT %d = {FAST} slice-done(%c)",
            ],
            TILE,
        ),
        # The rows of the table that are looked up, and 32 bytes, in a tile.
        (
            [f"ROOT %r = {A_TILE} fusion(%t, %s), kind=kCustom, calls=%rows"],
            2 * TILE + 512,
        ),
        (
            [
                "ROOT %r = f32[64,128]{1,0:T(8,128)} fusion(%w, %a), "
                "kind=kLoop, calls=%in_place"
            ],
            2 * TILE,
        ),
        # The branch that updates.
        (
            [
                f"ROOT %r = {A_TILE} conditional(%p, %a, %a), "
                "true_computation=%keep, false_computation=%update"
            ],
            2 * TILE,
        ),
        (
            [
                f"ROOT %r = {A_TILE} conditional(%p, %a, %a), "
                "branch_computations={%update, %keep}"
            ],
            2 * TILE,
        ),
        # Five times: one array is read, although it is an operand twice, and
        # one is written.
        (
            [
                f"%b = (s32[]{{:T(128)S(6)}}, {A_TILE}) tuple(%i0, %a)",
                f"ROOT %r = (s32[]{{:T(128)S(6)}}, {A_TILE}) while(%b), "
                "condition=%condition, body=%body",
            ],
            5 * 3 * TILE,
        ),
    ],
)
def test_main_memory(lines, expected):
    assert measure(*lines).main_memory_bytes == expected


def test_sums_over_replicas_are_counted_for_values_in_any_memory():
    reduced = measure(
        f"%c = {FAST} copy(%a)",
        f"ROOT %r = ({A_TILE}, {FAST}) all-reduce(%a, %c), to_apply=%add",
    )
    assert reduced.all_reduce_bytes == 2 * TILE
    # The copy's read, and the first value in both directions.
    assert reduced.main_memory_bytes == TILE + 2 * TILE


def test_loops_come_with_the_number_of_their_iterations():
    text = (
        f"{TEXT}{PARAMETERS}"
        f"  %b = (s32[]{{:T(128)S(6)}}, {A_TILE}) tuple(%i0, %a)\n"
        f"  ROOT %r = (s32[]{{:T(128)S(6)}}, {A_TILE}) while(%b), "
        "condition=%condition, body=%body\n}\n"
    )
    loops = list(hlo_text.Program(text).loops())
    assert loops == [hlo_text.Loop("body", 5, 1)]
