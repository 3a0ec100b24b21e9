import re
import signal

import mwparserfromhell
import pytest

from tfrecord_builders import language_tables
from tfrecord_builders.quality import cleaning
from tfrecord_builders.wikitext import article, links

GERMAN = links.Syntax(("datei",), ("kategorie",))

ARTICLE = """\
{{About|the river|the town|Lenn (town)}}
{{Infobox river
| name   = Lenn
| length = {{convert|120|km|mi}}
| image  = [[File:Lenn.jpg|thumb|A [[bridge]] on the Lenn]]
}}
[[File:Lenn at dusk.jpg|thumb|right|The Lenn, seen from [[Ober (hill)|Ober]]\
 at dusk.<ref>Photo</ref>]]
The '''Lenn''' ({{IPA-de|lɛn}}; {{lang-fr|''Laine''}}) is a [[river]]<!-- a
comment {{ [[ --> of ''Upper'' [[Saxa (region)|Saxa]].<ref name="a">{{cite\
 book|title=Rivers|pages=1–2}}</ref> It is {{convert|120|km|mi|abbr=on}} long\
<ref name=a /> and drains 1,200&nbsp;km<sup>2</sup>.{{citation needed}}

Its [[source (river)|source]]s lie near [http://example.org/x the Ober] and\
 the Ober's ''twin''. See also [http://example.org/bare].<br/>A new line.

== Course ==
{| class="wikitable"
! Place !! Km
|-
| [[Aden]] || 12
{|
| inner || table
|}
|}
* First ''item'' of a [[list]]
# Second item: {{nowrap|H<sub>2</sub>O}}
: An indented <span style="color:red">remark</span>.
<gallery>
File:A.jpg|A caption
</gallery>
{{quote|Rivers are never the same.|Somebody}}
The length <math>l = \\frac{a}{b}</math> was <code>measured</code> twice ( ; ).
<source lang="python">print("no [[prose]]")</source>
__NOTOC__
=== Towns ===
Aden, Bree and <nowiki>[[no link]] ''x''</nowiki> lie on it.

== See also ==
* [[Another river]]
=== Deeper ===
* [[Yet another]]
== Culture ==
Songs praise it.
==References==
{{reflist}}
== External links ==
* [http://example.org Site]
[[Category:Rivers]]
[[de:Lenn]]
"""


def to_text(markup, syntax=GERMAN):
    return cleaning.clean(article.to_text(markup, syntax))


def test_an_article_becomes_its_prose_in_paragraphs():
    assert (
        to_text(ARTICLE)
        == """\
The Lenn (Laine) is a river of Upper Saxa. It is 120 km long and drains \
1,200 km².
Its sources lie near the Ober and the Ober's twin. See also.
A new line.
First item of a list
Second item: H2O
An indented remark.
Rivers are never the same.
The length was measured twice.
Aden, Bree and [[no link]] ''x'' lie on it.
Songs praise it."""
    )


@pytest.mark.parametrize(
    "markup, text",
    [
        ("[[bus]]es and [[bus|coach]]es", "buses and coaches"),
        (
            "[[:Category:Rivers|the rivers]] [[:de:Fluss|Fluss]]",
            "the rivers Fluss",
        ),
        (
            "[[wikt:word]] [[wikt:word|word]] [[#Part]] [[Star Trek: Nemesis]]",
            "word word Part Star Trek: Nemesis",
        ),
        ("[[Datei:X.jpg|mini|Ein [[Fluss]]]]Text", "Text"),
        ("[[ image : X.jpg |a]]Text[[Kategorie:Y]][[Category:Z|*]]", "Text"),
        ("[[File:open.jpg|thumb|text\nprose", "prose"),
        ("[[fr:Titre]][[zh-min-nan:X]][[simple:Y]]Text", "Text"),
        ("a [//example.org label] b [mailto:a@b.c mail]", "a label b mail"),
        ("[[a|''b'' [c] d]]", "b [c] d"),
        ("[[open and [[closed]]", "open and closed"),
    ],
)
def test_the_labels_of_links_stay(markup, text):
    assert to_text(markup) == text


@pytest.mark.parametrize(
    "markup, text",
    [
        ("''i'' '''b''' '''''bi'''''", "i b bi"),
        ("''Titanic'''s end", "Titanic's end"),
        ("'''''both''' italic''", "both italic"),
        ("''''quoted''''", "'quoted'"),
        ("l'''amour'' et '''b'''", "l'amour et b"),
        ("don't 'quote' it", "don't 'quote' it"),
        ("''open", "open"),
    ],
)
def test_quotes_are_removed_and_apostrophes_stay(markup, text):
    assert to_text(markup) == text


@pytest.mark.parametrize(
    "markup, text",
    [
        ("a<ref>x</ref> b<REF group=n>y</REF> c<ref name='z'/> d", "a b c d"),
        (
            "a<ref name=x> lost slash. Prose.<ref>y</ref> more",
            "a lost slash. Prose. more",
        ),
        ("a<ref>never closed. Prose.", "anever closed. Prose."),
        ("<table><tr><td><table></table>x</td></tr></table>prose", "prose"),
        (
            "10<sup>6</sup> s<sup>−1</sup> 19<sup>th</sup> CO<sub>2</sub>",
            "10⁶ s⁻¹ 19th CO2",
        ),
        ("1 < 2 and <nothing> 3 > 2", "1 < 2 and <nothing> 3 > 2"),
        (
            "<blockquote>\nSaid.\n</blockquote>\n<div class=x>Then</div>",
            "Said.\nThen",
        ),
        ("&ndash; &amp;amp; caf&eacute;", "– &amp; café"),
        ("<pre>x = [[1]]</pre>prose", "prose"),
        ("__TOC__a __KEIN_INHALT__b __init__", "a b __init__"),
        ("{|\n| never closed\n|-\n! a !! b\n\nprose", "prose"),
        ("----\ntext\n***\n:", "text"),
    ],
)
def test_elements_and_tables_are_removed_and_prose_stays(markup, text):
    assert to_text(markup) == text


@pytest.mark.parametrize(
    "markup, text",
    [
        ("-{zh-hans:软件;zh-hant:軟體}-很好。-{H|zh:x}-", "软件很好。"),
        # The same variant in any order, and the nearest one if it is missing.
        ("-{zh-tw:滑鼠; zh-cn:鼠标;}-好", "鼠标好"),
        ("-{zh-tw:計程車;zh-hk:的士}-好", "計程車好"),
        # A colon or a semicolon that belongs to no rule.
        ("开始于-{12:30}-。", "开始于12:30。"),
        ("-{zh-hans:A&nbsp;B;zh-hant:C}-。", "A B。"),
        # Blocks in blocks, and with links and templates in them.
        ("-{zh-hant:繁-{內}-體;zh-hans:简-{内}-体}-字", "简内体字"),
        ("-{zh-hans:[[计算机|电脑]];zh-hant:[[電腦]]}-好", "电脑好"),
        ("-{{{lang|ja|日本}}}-国", "日本国"),
        ("post-{{nowrap|war}} x-{{nowrap|y}}-z", "post-war x-y-z"),
        # Flags: rules that are shown, hidden, a title, raw text.
        ("-{A|zh-cn:马;zh-tw:馬}-来", "马来"),
        ("-{T|zh-cn:标题}-正文-{-|zh-cn:删}-", "正文"),
        ("-{R|原文:不变}-", "原文:不变"),
        ("-{巨集=>zh-cn:宏;zh-tw:巨集}-好", "宏好"),
        # Text for some variants only.
        ("-{zh-hant|繁}--{zh-hans;zh-cn|简}-字", "简字"),
        # Other languages whose wikis convert their text.
        ("-{sr-el:Beograd;sr-ec:Београд}- је", "Београд је"),
        ("-{kk-arab:قالا;kk-latn:qala;kk-cyrl:қала}-", "қала"),
        ("-{ku-arab:شار;ku-latn:şar}-", "şar"),
        ("-{uz-cyrl:шаҳар;uz-latn:shahar}-", "shahar"),
        ("-{ike-latn:inuk;ike-cans:ᐃᓄᒃ}-", "ᐃᓄᒃ"),
        ("-{crh-cyrl:шеэр;crh-latn:şeer}-", "şeer"),
        ("-{shi-tfng:ⵜⴰⵎⴰⵣⵉⵖⵜ;shi-latn:tamazight}-", "tamazight"),
        ("-{tg-latn:shahr;tg:шаҳр}-", "шаҳр"),
        # Blocks that have no end or no beginning.
        ("-{open text", "-{open text"),
        ("text }- x", "text }- x"),
    ],
)
def test_one_variant_of_a_language_is_chosen_everywhere(markup, text):
    assert to_text(markup) == text


@pytest.mark.parametrize(
    "markup, text",
    [
        ("10<sup>6.5</sup> 10<sup>12345</sup>", "10^6.5 10¹²³⁴⁵"),
        ("3<sup>n+1</sup> 2<sup>k</sup> 2<sup>n</sup>", "3ⁿ⁺¹ 2^k 2ⁿ"),
        ("10<sup>&minus;6</sup> 10<sup>1/2</sup>", "10⁻⁶ 10^(1/2)"),
        ("10<sup>10<sup>3</sup></sup>", "10^10³"),
        ("5{{×}}10{{sup|3}} and 10{{sup|6,5}}", "5×10³ and 10^6,5"),
        ("10<sup>''n''</sup> and 10<sup>2</sup>cm", "10ⁿ and 10²cm"),
        ("1<sup>1</sup>/<sub>2</sub> <sup>2</sup>⁄<sub>3</sub>", "1 1/2 2/3"),
        ("log<sub>10</sub>100 is 10<sub>2</sub>", "log₁₀100 is 10₂"),
        # No numbers: ordinals, formulas, notes.
        ("19<sup>th</sup> 1<sup>er</sup> 5<sup>o</sup>", "19th 1er 5o"),
        ("<sup>14</sup>C CO<sub>2</sub> Ca<sup>2+</sup>", "¹⁴C CO2 Ca²⁺"),
        ("word<sup>[1]</sup> word<sup>1, 2</sup>", "word[1] word1, 2"),
    ],
)
def test_raised_digits_make_no_other_number(markup, text):
    assert to_text(markup) == text


def test_blocks_separate_the_words_around_them():
    assert (
        to_text(
            "One.{{pb}}Two.{{paragraph break}}Three<gallery>\nFile:a.jpg|x\n"
            "</gallery>Four<timeline>x</timeline>Five"
        )
        == "One.\nTwo.\nThree\nFour\nFive"
    )


def test_characters_stay_without_their_readings():
    assert (
        to_text("<ruby>東京<rp>(</rp><rt>とうきょう</rt><rp>)</rp></ruby>へ")
        == "東京へ"
    )


@pytest.mark.parametrize(
    "markup, text",
    [
        ("A ({{IPA|x}}) b", "A b"),
        ("A ({{IPA|x}}; 1900) b", "A (1900) b"),
        ("A (1900, {{IPA|x}}) b", "A (1900) b"),
        ("A ({{IPA|x}}, {{IPA|y}}; born) {{IPA|z}}, b", "A (born), b"),
        ("call f() and f(x)", "call f() and f(x)"),
        ("a, {{x}}, b", "a, b"),
        ("東京（{{IPA|x}}）は", "東京は"),
        ("A (''{{IPA|x}}'') b", "A b"),
    ],
)
def test_a_removed_template_leaves_no_gap(markup, text):
    assert to_text(markup) == text


def test_end_sections_are_removed_whole_and_elsewhere_only_headings():
    text = to_text(
        "Intro\n== Life ==\nA\n== Siehe auch ==\nB\n=== Sub ===\nC\n"
        "== '''[[Notes]]''' ==\nD\n== Work ==\nE"
    )
    assert text == "Intro\nA\nE"


def test_the_tables_of_languages_hold_text_under_codes_of_languages():
    """YAML reads no, on and 12 as other things than text."""
    code = re.compile(r"[a-z]{2,3}|map-bms|nds-nl|roa-tara")
    for table in ("namespaces", "end_sections", "disambiguation"):
        for language, entry in language_tables.read(table).items():
            assert code.fullmatch(language), (table, language)
            lists = entry.values() if isinstance(entry, dict) else [entry]
            for words in lists:
                assert isinstance(words, list), (table, language)
                assert all(isinstance(word, str) for word in words), words


# A title of each kind in languages that the other tests leave out.
END_SECTIONS = {
    "ar": ["الهوامش", "قراءة متعمقة", "المصادر والمراجع"],
    "bg": ["Източници", "Външни препратки", "Вижте също"],
    "bn": ["তথ্যসূত্র", "বহিঃসংযোগ", "আরও দেখুন"],
    "ca": ["Referències", "Vegeu també", "Enllaços externs"],
    "cy": ["Cyfeiriadau", "Dolenni allanol"],
    "da": ["Kilder", "Eksterne henvisninger", "Se også"],
    "el": ["Παραπομπές", "Εξωτερικοί σύνδεσμοι", "Δείτε επίσης"],
    "eo": ["Referencoj", "Eksteraj ligiloj", "Vidu ankaŭ"],
    "et": ["Viited", "Välislingid", "Vaata ka"],
    "eu": ["Erreferentziak", "Kanpo estekak", "Ikus, gainera"],
    "fa": ["منابع", "پیوند به بیرون", "جستارهای وابسته"],
    "fi": ["Viitteet", "Aiheesta muualla", "Katso myös", "Kirjallisuutta"],
    "gl": ["Notas", "Véxase tamén", "Ligazóns externas"],
    "he": ["הערות שוליים", "קישורים חיצוניים", "ראו גם"],
    "hi": ["सन्दर्भ", "बाहरी कड़ियाँ", "इन्हें भी देखें"],
    "hr": ["Izvori", "Vanjske poveznice", "Povezani članci"],
    "hu": ["Jegyzetek", "További információk", "Kapcsolódó szócikkek"],
    "hy": ["Ծանոթագրություններ", "Արտաքին հղումներ", "Տես նաև"],
    "id": ["Referensi", "Pranala luar", "Lihat pula"],
    "is": ["Heimildir", "Tenglar", "Tengt efni"],
    "ka": ["სქოლიო", "რესურსები ინტერნეტში", "იხილეთ აგრეთვე"],
    "ko": ["각주", "외부 링크", "같이 보기", "참고 문헌"],
    "la": ["Notae", "Nexus externi", "Vide etiam"],
    "lt": ["Šaltiniai", "Nuorodos", "Taip pat skaitykite"],
    "lv": ["Atsauces", "Ārējās saites", "Skatīt arī"],
    "mk": ["Наводи", "Надворешни врски", "Поврзано"],
    "mr": ["संदर्भ", "बाह्य दुवे", "हे सुद्धा पहा"],
    "ms": ["Rujukan", "Pautan luar", "Lihat juga"],
    "my": ["ကိုးကား", "ပြင်ပလင့်ခ်များ"],
    "no": ["Referanser", "Eksterne lenker", "Se også"],
    "ro": ["Note", "Legături externe", "Vezi și"],
    "sk": ["Referencie", "Externé odkazy", "Pozri aj"],
    "sl": ["Sklici", "Zunanje povezave", "Glej tudi"],
    "sq": ["Referime", "Lidhje të jashtme", "Shiko edhe"],
    "sr": ["Референце", "Спољашње везе", "Vidi još"],
    "sw": ["Marejeo", "Viungo vya nje", "Tazama pia"],
    "ta": ["மேற்கோள்கள்", "வெளி இணைப்புகள்", "மேலும் காண்க"],
    "te": ["మూలాలు", "బయటి లింకులు", "ఇవి కూడా చూడండి"],
    "th": ["อ้างอิง", "แหล่งข้อมูลอื่น", "ดูเพิ่ม"],
    "uk": ["Примітки", "Посилання", "Див. також"],
    "ur": ["حوالہ جات", "بیرونی روابط", "مزید دیکھیے"],
    "vi": ["Tham khảo", "Liên kết ngoài", "Xem thêm", "Chú thích"],
    "yue": ["參考", "出面網頁", "睇埋"],
}


@pytest.mark.parametrize("language", END_SECTIONS)
def test_end_sections_are_known_in_each_language(language):
    syntax = links.Syntax(language=language)
    for title in [*END_SECTIONS[language], "See also", "References"]:
        markup = f"Intro\n== {title} ==\n* A work\n==Aden==\nProse"
        assert to_text(markup, syntax) == "Intro\nProse", title


@pytest.mark.parametrize(
    "language, title",
    [
        # Case and accents; the i of Turkish.
        ("el", "ΠΑΡΑΠΟΜΠΕΣ"),
        ("es", "Vease Tambien"),
        ("de", "FUSSNOTEN"),
        ("tr", "DIŞ BAĞLANTILAR"),
        ("vi", "Liên Kết Ngoài"),
        # Decomposed letters, points, vowels, long lines and other letters.
        ("cs", "Pozna\u0301mky"),
        ("he", "הֶעָרוֹת שׁוּלַיִים"),
        ("ar", "الوصلات الخارجيّة"),
        ("ar", "مراجـــع"),
        ("fa", "پانويس"),
        ("fa", "پی نوشت"),
        ("fa", "پی\u200cنوشت‌ها"),
        ("ur", "مزيد ديكهيے"),
        ("hi", "बाहरी कडियां"),
        # Punctuation, spaces, links, templates and entities.
        ("fr", "Voir aussi :"),
        ("ca", "''Enllaços&nbsp;externs''"),
        ("ko", "외부링크"),
        ("de", "[[Bibliografie|Literatur]] {{Anker|lit}}"),
        ("it", "<span id=x>Note</span>"),
        ("ru", "Литература (на английском)"),
        ("zh", "-{參見}-"),
        ("zh", "-{zh-hans:参考文献;zh-hant:參考文獻}-"),
        # Two titles in one.
        ("de", "Literatur und Weblinks"),
        ("nl", "Bronnen, noten en/of referenties"),
        ("pl", "Przypisy i bibliografia"),
        ("uk", "Джерела та посилання"),
        ("fa", "یادداشت‌ها و منابع"),
        ("he", "מקורות והערות שוליים"),
        ("ar", "ملاحظات وهوامش"),
        ("ja", "脚注・出典"),
        ("ja", "注釈および参考文献"),
        ("hi", "सन्दर्भ और टिप्पणियाँ"),
        # The titles of a fallback language.
        ("gsw", "Weblinks"),
        ("wuu", "参考资料"),
    ],
)
def test_titles_of_end_sections_are_known_in_all_their_spellings(
    language, title
):
    markup = f"Intro\n== {title} ==\n* A work"
    assert to_text(markup, links.Syntax(language=language)) == "Intro"


@pytest.mark.parametrize(
    "language, title",
    [
        ("en", "Noter"),
        ("en", "Fuentes"),
        ("de", "Notes"),
        ("cs", "Notes"),
        ("it", "Sources"),
        ("es", "Note"),
        ("id", "Källor"),
        ("fr", "Literatur"),
        ("de", "Literatur und Musik"),
        ("he", "ספרות"),
        ("ja", "参考になる人物"),
    ],
)
def test_a_section_of_prose_stays(language, title):
    markup = f"Intro\n== {title} ==\nProse"
    assert to_text(markup, links.Syntax(language=language)) == "Intro\nProse"


def test_no_word_is_lost_that_the_parser_finds():
    """mwparserfromhell reads the whole page, without what we leave out."""
    prose = re.sub(
        r"(?s)== See also ==.*?(?=== Culture)|==References==.*", "", ARTICLE
    )
    prose = re.sub(r"(?s)<(math|source|gallery|ref)[ >].*?</\1>", "", prose)
    code = mwparserfromhell.parse(prose)
    for link in code.filter_wikilinks(matches=r"^\[\[File"):
        if link in code.nodes:
            code.remove(link)
    for tag in code.filter_tags(matches=lambda tag: tag.tag == "table"):
        if tag in code.nodes:
            code.remove(tag)
    for heading in code.filter_headings():
        code.remove(heading)
    words = set(re.findall(r"\w+", code.strip_code()))
    ours = set(re.findall(r"\w+", to_text(ARTICLE)))
    # The parser keeps the switch, and we write km².
    assert words - ours == {"__NOTOC__", "km2"}


@pytest.mark.parametrize(
    "unit",
    [
        "{{",
        "}}",
        "[[",
        "[[a|",
        "[[File:x|",
        "<ref>",
        "<math>",
        "<table>",
        "\n{|",
        "''' a ",
        "<!-- ",
        "<nowiki>",
        "-{",
        "-{zh:a;",
        "}-",
        "{{a|b",
        "{{a|b}} and so on and so on, ",
        "10<sup>6.",
        "('' {{a}}",
        "( ",
        "\n== a",
        "\n",
        "[http://a ",
        "{{lang|a|",
        "<sup>",
        "__A",
    ],
)
def test_broken_markup_takes_no_more_than_linear_time(unit):
    def give_up(*_):
        raise AssertionError("It takes longer than linear time can.")

    before = signal.signal(signal.SIGPROF, give_up)
    # Linear time is a third of a second, and quadratic time is minutes.
    signal.setitimer(signal.ITIMER_PROF, 30)
    try:
        article.to_text(unit * (1_000_000 // len(unit)), GERMAN)
    except article.UnparsableError:
        pass
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def test_a_line_of_open_links_is_refused_at_once():
    with pytest.raises(article.UnparsableError, match="brackets"):
        article.to_text("[[a " * 5000, GERMAN)
