"""Dumps say what else their templates are called."""

import bz2

import pytest

from bert_pretrain import errors, files
from helpers import builds
from tfrecord_builders import build
from tfrecord_builders.engines import local
from tfrecord_builders.stages import (
    build_config,
    extract,
    template_redirects,
)

HEADER = """\
<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" xml:lang="{code}">
  <siteinfo>
    <dbname>{code}wiki</dbname>
    <namespaces>
      <namespace key="0" case="first-letter" />
      <namespace key="10" case="first-letter">{template}</namespace>
    </namespaces>
  </siteinfo>
"""


def page(number, title, text, namespace=0, target=""):
    redirect = f'<redirect title="{target}" />' if target else ""
    return f"""\
  <page>
    <title>{title}</title>
    <ns>{namespace}</ns>
    <id>{number}</id>
    {redirect}
    <revision><id>1</id><text>{text}</text></revision>
  </page>
"""


def template(number, title, target):
    return page(number, title, "#REDIRECT", namespace=10, target=target)


def write_dump(path, code, template_name, *pages):
    content = HEADER.format(code=code, template=template_name)
    content = (content + "".join(pages) + "</mediawiki>\n").encode()
    compressed = bz2.compress(content) if path.endswith(".bz2") else content
    files.write_bytes(path, compressed)


@pytest.fixture
def folder(tmp_path):
    # The redirects follow the articles, and stand in another file.
    write_dump(
        f"{tmp_path}/de-1.xml",
        "de",
        "Vorlage",
        page(1, "A", "Das {{Fremdw|xx|mot}} und {{Bel|Grund}} x. " * 20),
        template(2, "Vorlage:Fremdw", "Vorlage:Fremdwort"),
    )
    write_dump(
        f"{tmp_path}/de-2.xml.bz2",
        "de",
        "Vorlage",
        template(3, "Vorlage:Fremdwort", "Vorlage:Lang"),
        template(4, "Vorlage:Bel", "Vorlage:Nachweis &amp; mehr"),
        template(5, "Vorlage:Nachweis &amp; mehr", "Vorlage:Belege"),
        template(6, "Vorlage:Kreis", "Vorlage:Kreis2"),
        template(7, "Vorlage:Kreis2", "Vorlage:Kreis"),
        template(8, "Vorlage:Neu", "Vorlage:Keine bekannte"),
        page(9, "B", "#WEITERLEITUNG [[A]]", target="A"),
        page(10, "C", "Ein {{Fremdw|xx|Wort}} von C. " * 20),
    )
    write_dump(
        f"{tmp_path}/fr.xml",
        "fr",
        "Modèle",
        page(1, "A", "Le {{Fremdw|xx|mot}} compte {{Unit|5|km|2}} x. " * 20),
        template(2, "Modèle:Unit", "Modèle:Unité"),
    )
    builds.write_vocabulary(f"{tmp_path}/vocab.txt")
    return tmp_path


def work_of(folder, num_workers=1, name="set", **values):
    config = builds.config_of(
        folder,
        name,
        num_workers,
        source=("wikipedia",),
        input=(f"{folder}/*.xml*",),
        filters="none",
        unit_mb=0.001,
        eval_fraction=0.0,
        test_fraction=0.0,
        **values,
    )
    return build_config.Work(config.dataset, config.output_dir), config


def texts(folder, **values):
    """The text that a build extracts, by document."""
    work, _ = work_of(folder, **values)
    extract_stage = extract.stage(work)
    stage = template_redirects.stage(work, extract_stage.units)
    files.make_directory(work.dir)
    with local.LocalEngine(work.dir, 1) as engine:
        summaries = engine.run(stage) if stage.units else []
        template_redirects.write(work, summaries)
        extracted = engine.run(extract_stage)
    parts = extract.document_parts_of(work, extracted)
    return [text for part in parts for _, text, _ in part.read()]


def test_redirects_lead_to_known_templates_in_any_file_of_the_wiki(folder):
    work, _ = work_of(folder)
    texts(folder)
    assert files.read_json(template_redirects.path_of(work)) == {
        "dewiki": {
            "bel": "belege",
            "nachweis & mehr": "belege",
            "fremdw": "lang",
            "fremdwort": "lang",
        },
        "frwiki": {"unit": "unité"},
    }


def test_other_names_show_what_the_template_shows(folder):
    shown = texts(folder)
    assert [text.partition(" x.")[0] for text in shown] == [
        "Das mot und",
        "Ein Wort von C. " * 19 + "Ein Wort von C.",
        "Le xx compte 5 km²",  # It leads nowhere in this wiki.
    ]


def test_without_the_stage_no_dump_is_read_twice(folder):
    work, _ = work_of(folder, template_redirects=False)
    units = extract.stage(work).units
    assert not template_redirects.stage(work, units).units
    shown = texts(folder, template_redirects=False)
    assert shown[0].startswith("Das xx und Grund x.")


def test_a_damaged_dump_is_left_to_the_stage_that_reads_articles(folder):
    path = folder / "de-2.xml.bz2"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(errors.UserError, match="'extract'.*de-2.xml.bz2"):
        texts(folder)


@pytest.mark.slow
def test_a_repaired_dump_changes_the_text_of_finished_units(folder):
    path = folder / "de-2.xml.bz2"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    _, config = work_of(folder)
    with pytest.raises(errors.UserError, match="de-2.xml.bz2"):
        build.main(config)  # Another unit has read de-1.xml.
    path.write_bytes(whole)
    build.main(config)
    _, other = work_of(folder, name="other")
    build.main(other)
    repaired, fresh = (builds.contents(c.output_dir) for c in (config, other))
    assert repaired == fresh
