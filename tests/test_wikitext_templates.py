import pytest

from tfrecord_builders.wikitext import expansions, templates


@pytest.mark.parametrize(
    "markup, text",
    [
        ("a {{infobox|x={{y}}|z}} b", "a  b"),
        ("a{{cite|{one}|{{{2}}} }}b", "ab"),
        ("{{{1|default}}} left", " left"),
        ("{{{{{nested}}} }}x", "x"),
        ("{{open and {{closed}} then", "{{open and  then"),
        ("closed}} then", "closed}} then"),
        ("{{lang|fr|mot {{nowrap|à mot}}}}", "mot à mot"),
        ("{{lang-el|λόγος|links=no}}", "λόγος"),
        ("{{transl|ja|''budō''}}", "''budō''"),
        ("{{nowrap|1=''Q'' = ''It''}}", "''Q'' = ''It''"),
        ("{{nowrap|[[a|b]] c}}", "[[a|b]] c"),
        ("{{convert|5|km|mi|abbr=on}}", "5 km"),
        ("{{Convert|5|to|10|km2|sqmi}}", "5 to 10 km²"),
        ("a {{convert|30|mile|km|adj=on}} ride", "a 30-mile ride"),
        ("{{convert|6|ft|7|in|cm}}", "6 ft 7 inches"),
        ("{{convert|5}}", "5"),
        ("{{val|6.24|e=-18|u=kg}}", "6.24×10⁻¹⁸ kg"),
        ("{{frac|3|1|2}} {{frac|2|3}} {{frac|4}}", "3 1/2 2/3 1/4"),
        (
            "{{as of|2010|3|lc=y}}, {{As of|2008}}",
            "as of March 2010, As of 2008",
        ),
        (
            "Paul{{'s}} {{circa|1200}}{{snd}}{{USS|Hornet|CV-12}}",
            "Paul's c. 1200 – USS Hornet",
        ),
        ("{{quote|Words.|Author}}", "\nWords.\n"),
        ("{{quote|text=Words.|author=Author}}", "\nWords.\n"),
        ("{{formatnum:12345}} {{#if:a|b}}", "12345 "),
        ("[[a{{!}}b]]", "[[a|b]]"),
        ("{{chem|NH|4|+}}", "NH4+"),
    ],
)
def test_prose_in_templates_stays_and_all_else_is_removed(markup, text):
    assert templates.expand(markup) == text


def test_no_template_fails_or_leaves_braces_for_any_arguments():
    for name in expansions.BY_NAME:
        for arguments in (
            "",
            "|",
            "|a",
            "|a|b",
            "|a|b|c|d",
            "|x=y",
            "|1=a|2=b",
            "||||",
            "|2010|13",
            "|5|to",
            "|5|²",
        ):
            expanded = templates.expand(f"a {{{{{name}{arguments}}}}} b")
            # No brace is left, and the text around it stands.
            assert expanded.startswith("a ") and expanded.endswith(" b")
            assert "{{" not in expanded and "}}" not in expanded
