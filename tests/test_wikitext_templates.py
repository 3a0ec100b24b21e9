import pytest

from tfrecord_builders import language_tables
from tfrecord_builders.wikitext import expansions, templates


def expand(markup, language="", title=""):
    return templates.expand(markup, templates.Wiki(language), title)


def in_sentence(template, language=""):
    """What a template shows inside a sentence."""
    text = expand(f"Before {template} after the words.", language)
    assert text.startswith("Before ") and text.endswith(" after the words.")
    return text.removeprefix("Before ").removesuffix(" after the words.")


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
    assert expand(markup) == text


@pytest.mark.parametrize("language", language_tables.read("templates"))
def test_no_template_fails_or_leaves_braces_for_any_arguments(language):
    for name in expansions.of_language(language).by_name:
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
            expanded = expand(f"a {{{{{name}{arguments}}}}} b", language)
            # No brace is left, and the text around it stands.
            assert expanded.startswith("a") and expanded.endswith("b")
            assert "{{" not in expanded and "}}" not in expanded


# Names that no table holds, as wikis of these languages form them.
UNKNOWN = [
    ("ar", "{{كلمة|كتاب}}", "كتاب"),
    ("ar", "{{وصلة لغة|جسر|en|Bridge}}", "جسر"),
    ("bg", "{{числоформат|12345}}", "12345"),
    ("bn", "{{সংখ্যা|১২৩৪৫}}", "১২৩৪৫"),
    ("cs", "{{zkratka|OSN|Organizace}}", "OSN"),
    ("cs", "{{den|3|května|2001}}", "3 května 2001"),
    ("cs", "{{jazykem|en|word}}", "word"),
    ("da", "{{tal|12345}}", "12345"),
    ("da", "{{dansklink|Bro|Brücke|de}}", "Bro"),
    ("el", "{{γλώσσα2|en|word}}", "word"),
    ("el", "{{συντομογραφία|ΟΗΕ|εξήγηση}}", "ΟΗΕ"),
    ("et", "{{arv|12345}}", "12345"),
    ("fa", "{{عدد|12345}}", "12345"),
    ("fa", "{{پیوند زبان|پل|en|Bridge}}", "پل"),
    ("fi", "{{pvm|3|5|2001}}", "3. toukokuuta 2001"),
    ("fi", "{{lyhenne|YK|selitys}}", "YK"),
    ("fi", "{{kieli|en|word}}", "word"),
    ("he", "{{מושג|ספר|הסבר}}", "ספר"),
    ("he", "{{מתאריך|3|מאי|2001}}", "3 מאי 2001"),
    ("hi", "{{संख्या|12345}}", "12345"),
    ("hi", "{{अंग्रेज़ी|word}}", "word"),
    ("hr", "{{stoljeće|XIX}}", "XIX"),
    ("hr", "{{mjera|5|km}}", "5 km"),
    ("hu", "{{napok|2001|5|3}}", "2001. május 3."),
    ("hu", "{{apró|szó}}", "szó"),
    ("hu", "{{mérték|1,5|fő/km|2}}", "1,5 fő/km<sup>2</sup>"),
    ("hy", "{{թիվ|12345}}", "12345"),
    ("id", "{{jarak|5|km}}", "5 km"),
    ("id", "{{bhs|en|word}}", "word"),
    ("it", "{{linguaestera|fr|mot}}", "mot"),
    ("it", "{{acronimo|ONU|Nazioni Unite}}", "ONU"),
    ("it", "{{giorno|1950|2|1}}", "1 febbraio 1950"),
    ("ka", "{{რიცხვი|12345}}", "12345"),
    ("ko", "{{20세기}}", "20세기"),
    ("ko", "{{다른 언어|다리|en|Bridge}}", "다리"),
    ("ko", "{{일자|2001|5|3}}", "2001년 5월 3일"),
    ("lt", "{{XX amžius}}", "XX amžius"),
    ("pl", "{{X wiek}}", "X wiek"),
    ("eo", "{{1a jarcento}}", ""),
    ("gl", "{{Século V}}", "Século V"),
    ("nl", "{{eenheid|5|km}}", "5 km"),
    ("nl", "{{brug|Brug|de|Brücke}}", "Brug"),
    ("nl", "{{dagen|3|mei|2001}}", "3 mei 2001"),
    ("no", "{{målform|en|word}}", "word"),
    ("pl", "{{skrót|ONZ|opis}}", "ONZ"),
    ("pl", "{{dzień|1|maja|1950}}", "1 maja 1950"),
    ("pl", "{{wartość|−5|°C}}", "−5 °C"),
    ("pt", "{{unid|25|km}}", "25 km"),
    ("pt", "{{nascido|5|7|1950}}", "5 de julho de 1950"),
    ("pt", "{{interlíngua|Ponte||de|Brücke}}", "Ponte"),
    ("pt", "{{ponte|Ponte|a ponte|de|Brücke}}", "a ponte"),
    ("ro", "{{unitate|5|km}}", "5 km"),
    ("ro", "{{limba|en|word}}", "word"),
    ("sk", "{{cudzo|en|word}}", "word"),
    ("sr", "{{бр|12345}}", "12345"),
    ("sr", "{{век|XIX}}", "XIX"),
    ("sv", "{{ej översatt|Bro|de|Brücke}}", "Bro"),
    ("sv", "{{sorteringsnyckel|Lind, Jenny|Jenny Lind}}", "Jenny Lind"),
    ("sv", "{{2:a}}", ""),
    ("ta", "{{எண்|12345}}", "12345"),
    ("th", "{{ตัวเลข|12345}}", "12345"),
    ("th", "{{ย่อ|สหประชาชาติ|คำอธิบาย}}", "สหประชาชาติ"),
    ("tr", "{{sayı|12345}}", "12345"),
    ("tr", "{{kısaltma|TBMM|açıklama}}", "TBMM"),
    ("tr", "{{gün|3|Mayıs|2001}}", "3 Mayıs 2001"),
    ("tr", "{{saat|9|45}}", "9:45"),
    ("uk", "{{міст|Міст|Мосту|de|Brücke}}", "Мосту"),
    ("uk", "{{подія|3|травня|2001}}", "3 травня 2001"),
    ("uk", "{{розмір|large|слово}}", "слово"),
    ("vi", "{{số|12345}}", "12345"),
    ("vi", "{{nối|Cầu|de|Brücke}}", "Cầu"),
    ("vi", "{{1 tháng 5}}", ""),
    ("zh", "{{連結|大橋|Bridge}}", "大橋"),
    ("zh", "{{H2SO4}}", "H2SO4"),
]


@pytest.mark.parametrize("language, template, text", UNKNOWN)
def test_an_unknown_template_shows_its_word_in_any_language(
    language, template, text
):
    name = template.strip("{}").partition("|")[0].lower()
    assert expansions.of_language(language).find(name) is None
    assert in_sentence(template, language) == text


def test_a_page_of_another_language_is_not_the_word_of_a_text():
    text = expand("见过{{譯|en|John Smith|约翰}}和{{譯|大桥|Bridge}}。", "zh")
    assert text == "见过约翰和大桥。"


@pytest.mark.parametrize(
    "template",
    [
        "{{quux}}",
        "{{quux|}}",
        "{{quux|date=May 2010}}",
        "{{quux|a=1|b=2|c=3|d=4|text}}",
        "{{quux|Q42}}",
        "{{quux|12|34|56|N|7|8|9|E}}",
        "{{quux|Sound.ogg|listen}}",
        "{{quux|http://example.org|Site}}",
        "{{quux|Site|url=http://example.org}}",
        "{{quux|DE-NW|05315000}}",
        "{{quux|AT|30101}}",
        "{{quux|61774054}}",
        "{{quux|978-3-16-148410-0}}",
        "{{quux|Novák|2000|s=5}}",
        "{{quux|Novák|Horák|1999}}",
        "{{quux|æ|l|ˈ|b|iː|d|oʊ}}",
        "{{quux|/a/}}",
        "{{quux|5|170}}",
        "{{quux|1|2}}",
        "{{quux|red}}",
        "{{quux|1950|1|1|2000|1|1}}",
        "{{AUT}}",
        "{{R1}}",
        "{{DEFAULTSORT:Word}}",
    ],
)
def test_codes_records_and_references_show_nothing(template):
    assert in_sentence(template) == ""


@pytest.mark.parametrize(
    "markup, text",
    [
        # Alone on a line: tables of facts, navigation, notes to the reader.
        ("{{quux|Word}}\nText.", "\nText."),
        (":''{{quux|Word}}''\nText.", ":\nText."),
        ("* {{quux|Word}}{{quux|Word}}\nText.", "* \nText."),
        ("{{quux|Word}}[[Category:X]]\nText.", "[[Category:X]]\nText."),
        ("{{quux|Other page}} The text begins.", " The text begins."),
        # References follow a word or a sentence.
        ("Text.{{quux|Word}} More.", "Text. More."),
        ("Text{{quux|Word|4}}, more.", "Text, more."),
        ('"Text."{{quux|12–13}} More.', '"Text." More.'),
        ("The whole text. {{quux|Word}}", "The whole text. "),
        # A flag before the name.
        ("* {{quux|Norway}} Oslo, Norway", "*  Oslo, Norway"),
        ("in {{quux|Norway}} [[Norway]] and", "in  [[Norway]] and"),
        # Words in lists, brackets, quotes and links stay.
        ("* Text: {{quux|word}}", "* Text: word"),
        ("Text ({{quux|word}})", "Text (word)"),
        ("l'{{quux|amour}} x", "l'amour x"),
        ("[[Page|the {{quux|word}}]] x", "[[Page|the word]] x"),
        ("{{nowrap|the {{quux|word}}}} x", "the word x"),
        ("{{quux|the {{quux|word}}}} x", "the word x"),
        ("本、{{quux|漢字}}。", "本、漢字。"),
        ("ב{{quux|ספר}} x", "בספר x"),
        # A number beside a number would be another number.
        ("5{{quux|12}} x", "5 x"),
    ],
)
def test_the_place_of_an_unknown_template_decides(markup, text):
    assert expand(markup) == text


@pytest.mark.parametrize(
    "language, template, text",
    [
        ("de", "{{lang|fr|mot}}", "mot"),
        ("de", '{{"|Wort|ref=x}}', "„Wort“"),
        ("de", "{{ill|Wort|en|Word|lt=Worte}}", "Worte"),
        ("ca", "{{ill|en|Word|mot}}", "mot"),
        ("fr", "{{langue|en|texte=word}}", "word"),
        ("fr", "{{unité|1,5|hab./km|2}}", "1,5 hab./km²"),
        ("fr", "{{unité|8,5|kg||m|-3}}", "8,5 kg⋅m⁻³"),
        ("fr", "{{nombre|12345|habitants}}", "12345 habitants"),
        ("fr", "{{sp-|V|e|au|VI|e}}", "Ve au VIe siècle"),
        ("fr", "{{heure|12|30}}", "12 h 30"),
        ("fr", "{{lien|langue=en|trad=Foo|texte=mot}}", "mot"),
        ("es", "{{fecha|3|5|2001}}", "3 de mayo de 2001"),
        ("it", "{{M|15|ul=km}}", "15 km"),
        ("pl", "{{fakt|prawda|data=2010-05}}", "prawda"),
        ("pl", "{{fakt|data=2010-05}}", ""),
        ("ru", "{{нп5|Мост||en|Bridge}}", "Мост"),
        ("uk", "{{не перекладено|Міст|Мосту|de|Brücke}}", "Мосту"),
        ("zh", "{{tsl|en|Bridge|大橋}}", "大橋"),
        ("ca", "{{segle|XIX}}", "segle XIX"),
        ("pl", "{{ułamek|3|4}}", "3/4"),
        ("pt", "{{idade|1950|2|1|2000|1|31}}", "49"),
        ("sv", "{{ålder|1950|2|1}}", ""),
        ("fi", "{{lähde|12. toukokuuta 2010}}", ""),
        ("hu", "{{forrás?|dátum=2010}}", ""),
        ("cs", "{{kdo?}}", ""),
        ("tr", "{{kaynak belirt|tarih=2010}}", ""),
        ("ro", "{{sfn|Pop|2000|p=5}}", ""),
        ("ko", "{{출처 필요|날짜=2010}}", ""),
    ],
)
def test_known_templates_show_what_their_wikis_show(language, template, text):
    assert in_sentence(template, language) == text


def test_a_quotation_is_a_paragraph_unless_its_sentence_goes_on():
    assert expand("Hon sa {{citat|ord}} och gick.", "sv") == (
        "Hon sa ord och gick."
    )
    assert expand("Hon sa:\n{{citat|Ord.}}\nOch gick.", "sv") == (
        "Hon sa:\n\nOrd.\n\nOch gick."
    )


@pytest.mark.parametrize(
    "template, text",
    [
        ("{{convert|10|e6acre|km2}}", "10 million acres"),
        ("{{convert|2.1|Moilbbl/d}}", "2.1 million barrels per day"),
        ("{{convert|3+1/2|in|mm}}", "3 1/2 inches"),
        ("{{convert|5|xyzzy|km}}", ""),
        ("{{birth date|1950|1|2}}", "2 January 1950"),
        ("{{start date|2001|5}}", "May 2001"),
        ("{{age|1950|1|2|2000|1|1}}", "49"),
        ("{{age|1950|1|2}}", ""),
        ("{{ordinal|12}} {{ordinal|22}}", "12th 22nd"),
        ("{{sclass|Nimitz|aircraft carrier}}", "Nimitz-class aircraft carrier"),
        ("10{{e|6.5}}", "10×10^6.5"),
        ("{{10^|-3}}", "10⁻³"),
        ("5{{×}}10{{sup|3}}", "5×10<sup>3</sup>"),
        ("{{hlist|Ann|Bob}}", "Ann, Bob"),
        ("{{CO2}}", "CO2"),
    ],
)
def test_a_number_is_right_or_not_shown(template, text):
    assert in_sentence(template, "en") == text


def test_brackets_lose_the_word_whose_number_is_not_known():
    assert expand("He (born {{quux|1950|13|2}}) left.") == "He left."
    assert expand("He (Ann {{quux|x=1}}) left.") == "He (Ann ) left."


def test_lists_in_templates_keep_their_items():
    text = expand(
        "Members: {{plainlist|\n* Ann\n* Bob\n}}\n"
        "{{columns-list|colwidth=20em|\n* Cid\n}}\n{{quux|2|\n* Dan\n* Eve\n}}"
    )
    assert text.split() == "Members: * Ann * Bob * Cid * Dan * Eve".split()


def test_a_page_shows_its_title():
    assert expand("'''{{PAGENAME}}''' is", title="Ober") == "'''Ober''' is"
    assert expand("'''{{PAGENAME}}''' is") == " is"
    assert expand("{{SEITENNAME}} ist", title="Ober") == "Ober ist"


def test_an_infobox_that_is_never_closed_does_not_hide_the_article():
    text = expand("{{Infobox\n| name = X\n| a = {{foo\n}}\nProse.")
    assert text == "{{\nProse."


def test_names_of_templates_may_have_their_namespace():
    wiki = templates.Wiki("de", "Muster")
    for prefix in ("Template:", "vorlage: ", "Muster:"):
        assert (
            templates.expand(f"a {{{{{prefix}lang|fr|mot}}}} b", wiki)
            == "a mot b"
        )


def test_other_names_of_a_template_are_resolved():
    wiki = templates.Wiki(
        "de", redirects={"fremdwort": "lang", "bel": "belege"}
    )
    markup = "das {{Fremdwort|xx|mot}} hat {{Bel|Grund}} x"
    assert templates.expand(markup, wiki) == "das mot hat  x"
    assert expand(markup, "de") != "das mot hat  x"
