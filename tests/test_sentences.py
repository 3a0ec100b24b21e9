"""Sentences are split at the right places, and no text is lost."""

import random

import pytest

from helpers import prose
from tfrecord_builders import language_tables
from tfrecord_builders.tokens import sentences

# Each string is one sentence; each list is one paragraph.
ENGLISH = [
    # Titles and other abbreviations before a name.
    ["Mr. Bush met Dr. Rice and Gen. Abizaid.", "They talked for an hour."],
    ["Sen. John McCain and Rep. Nancy Pelosi agreed.", "Gov. Bush did not."],
    ["The Rev. Jesse Jackson and Prof. Hawking spoke with Lt. Col. Smith."],
    ["Iowa Gov. Tom Vilsack told Supt. Jones, Messrs. Hall and Mrs. Day."],
    ["He flew from St. Louis to Mt. Vernon and Ft. Worth."],
    ["The case of Brown vs. Board was won.", "Roe v. Wade followed."],
    ["(Mr. Brown declined.)", '"Dr. No is here," she said.'],
    # Initials.
    ["J. K. Rowling and J.R.R. Tolkien outsold George W. Bush."],
    ["The chairman, William H. Donaldson, wants a deeply divided S.E.C."],
    ["Samuel L. Jackson and P. J. O'Rourke read the works of T. S. Eliot."],
    ["Of the two he liked plan B.", "The other was too dear."],
    ["The tomb is that of Franz I.", "It was found in 1921."],
    # Abbreviations that may end a sentence.
    ["The U.S. Treasury and the U.N. Security Council met."],
    ["He has lived in the U.S. for years.", "His wife has not."],
    ["Troops left the U.S.", "They landed at 4 a.m. Monday."],
    ["It opens at 9 a.m. and closes at 5 p.m. EST.", "Entry is free."],
    ["The train left at 5 p.m.", "It was late."],
    ["Shares of Apple Inc. rose.", "Google Inc. Chief Eric Schmidt left."],
    ["She sued Time Warner Inc.", "The firm settled."],
    ["Coca-Cola Co. and Office Depot Corp. (ODP.N) fell.", "Others rose."],
    ["Sammy Davis Jr. and Ken Griffey Sr. attended."],
    ["A fire near Eagle, Colo. (AP) burned.", "R-Ariz. Sen. Kyl came."],
    ["She has a Ph.D. in law.", "He has none."],
    ["Bread, milk, etc. are dearer.", "So is tea."],
    ["Bread, milk, etc.", "The prices rose."],
    # Abbreviations before numbers, and dates.
    ["No. 18 Missouri beat No. 4 Texas.", "It was no. 3 last year."],
    ["The answer is no.", "He will not run."],
    ["It ended Sept. 30, 2004 and began on Jan. 1.", "Sales fell."],
    ["See Fig. 3, p. 12 and vol. 7.", "Then go on."],
    ["Use fruit, e.g. Apples, or nuts, i.e. Almonds."],
    # Numbers.
    ["Sales rose 3.5 percent to $2.75 billion.", "Costs fell 1.2 percent."],
    ["It happened in 2003.", "20 people died.", "$5 million was lost."],
    ["He scored 23.", "Smith added 12."],
    ["1. The first item of a list.", "It goes on."],
    [
        "Version 2.0.1 of example.com is out.",
        "Visit www.example.com.",
        "It works.",
    ],
    # Ellipses.
    ["He waited ... and waited.", "Then... nothing."],
    ["It was over...", "The crowd left."],
    ["Well... I think so.", "Yes."],
    # Quotes and brackets.
    ['"We won."', '"It was easy," he said.', "'Really.'", "'Yes.'"],
    ["“It is over.”", "“Go home,” he said.", "‘No!’", "‘Why?’"],
    ['"Can we go?" he asked.', '"Stop!" she cried.'],
    ["(It rained.)", "The match went on (until dark).", "[All left.]"],
    ['They called it a "disaster".', "'It was not,' said Rice."],
    ['He asked "Why?".', "No one knew."],
    # Question and exclamation marks.
    ["Who knew?", "Nobody!", "Really?!", "Yes!!!", "OK."],
    ["Hooray!", "It works."],
    # Small letters at the start of a sentence and elsewhere.
    ["Sony cut its prices.", "iPod sales rose.", "eBay fell."],
    ["The rock group Wham! is back."],
    # Text with spaces around its tokens.
    ["He left in 2003 .", "I stayed .", "it rained ."],
    ["Mr. Smith of the U.S. army , No. 90 Wing , is John P. Mays ."],
    # Other letters with capitals.
    ["Он ушёл.", "Она осталась, т. е. ждала."],
    ["Ελλάδα.", "Ο ήλιος."],
    ["Es regnet.", "Über uns ist Nebel.", "Été comme hiver."],
]
UNSPACED = [
    ["今天天气很好。", "我们去公园吧！", "你来吗？", "好的"],
    ["他说：“我不去。”", "然后走了。"],
    ["（他没有来。）", "《新闻》报道了。"],
    ["真的吗？！", "太好了！！！", "走吧。"],
    ["他走了……", "没有人知道。"],
    ["他说……，然后走了。"],
    ["价格是3.5元，增长了2.1%。", "公司在U.S.上市。"],
    ["太好了!", "我们走吧?", "好"],
    ["「行きます。」と彼は言った。", "「そうか。」", "彼は帰った。"],
    ["雨が降った｡", "寒い｡"],
]
# By language: abbreviations, ordinals and dates inside of sentences.
LANGUAGES = {
    "de": [
        ["Sie kam am 7. März 1984 in Bonn zur Welt.", "Am 2. Mai zog sie um."],
        ["Im 18. Jahrhundert war der 1. SC Feucht noch fern.", "Das war so."],
        ["Er aß z. B. Äpfel, d. h. Obst, u. a. Birnen.", "Dann ging er."],
        ["Siehe Nr. 8, Abb. 3 und Bd. 2.", "Die Akte fehlt."],
        ["Vgl. Müller, S. 12.", "Die Herren Dr. Weiß und Prof. Kern nicht."],
        ["Kaiser Wilhelm II. Ende war nah.", "Ludwig XIV. Erbe blieb."],
        ["Das Dorf entstand um 300 v. Chr.", "Die Römer kamen später."],
        ["Er starb 1990.", "Merkel kam 2005.", "Sie blieb bis 3.5.2010."],
        ["Sie kaufte Brot, Milch usw.", "Dann fuhr sie heim."],
        ["1. Der erste Punkt einer Liste.", "Es geht weiter."],
        [
            "Das Haus gehört Hrn. Beck.",
            "Der Preis stieg um 3,5.",
            "Na ja.",
            "Es endete 2:1.",
            "Trainer Beck ging.",
        ],
    ],
    "cs": [
        ["Narodil se 5. Května 1920.", "Zemřel v roce 1990."],
        ["Vlak jede ve 4. Řadě, např. Praha.", "To je vše."],
        ["Karel IV. Lucemburský byl král.", "Vládl dlouho."],
    ],
    "sk": [["Dňa 29. Augusta 1944 vypuklo povstanie.", "Trvalo dlho."]],
    "pl": [
        ["Mieszka przy ul. Długiej 5, tj. Śródmieście.", "Ma psa."],
        ["Prof. dr hab. Jan Nowak i ks. Piotr przyszli.", "To 3. Armia."],
    ],
    "da": [["Den 3. Juli kom hr. Jensen, f.eks. Danmark.", "Han gik igen."]],
    "no": [["Den 17. Mai feires, jf. Grunnloven.", "Det er en fest."]],
    "sv": [["Han bor t.ex. I Lund, jfr. Malmö.", "Det var bra."]],
    "is": [["Hún fæddist 3. Maí 1950, þ.e. Vor.", "Hún dó 1999."]],
    "fi": [
        ["Hän syntyi 4. Toukokuuta 1950.", "Hän asuu esim. Oulussa."],
        [
            "Voitti 2. Divisioonan.",
            "Se oli vuonna 1999.",
            "Sen jälkeen loppui.",
        ],
    ],
    "et": [["Ta sündis 1920. Aastal Tartus, nt. Eestis.", "See on kõik."]],
    "lv": [["Viņa dzimusi 1990. Gada 4. Maijā.", "Tas ir viss."]],
    "hu": [
        ["A 3. Osztály 1990. Május 5. Délután indult.", "Ez jó volt."],
        ["IV. Béla király volt.", "A dr. Nagy pl. Pécsen él."],
    ],
    "sl": [["Rodil se je 8. Februarja, npr. Ljubljana.", "To je vse."]],
    "hr": [
        ["Rođen je 3. Svibnja 1990. Zagrebačka škola.", "Bio je dobar."],
        ["Petar II. Petrović i dr. Horvat.", "To je tzv. Zagorje."],
    ],
    "sr": [["Рођен је 5. Маја, нпр. Београд.", "То је све."]],
    "tr": [
        ["Bu, 2. Dünya Savaşı sırasında oldu.", "Dr. Kaya öldü."],
        ["II. Abdülhamid tahta çıktı.", "O, M.Ö. Anadolu'da değildi."],
    ],
    "eu": [["1990. Urtean jaio zen, 3. Mundu Gerran.", "Hori da."]],
    "nl": [
        ["Hij at bijv. Appels, o.a. Elstar, met dhr. Jansen.", "Dat was al."],
        ["Zie blz. 5, nr. 3.", "J. R. van Dam en dr. De Wit.", "Klaar."],
    ],
    "fr": [
        ["M. Dupont et Mme. Petit virent le Dr. Roux.", "Ils rirent."],
        ["C'était en 50 av. J.-C. César vint.", "Il vit.", "Cf. Livy."],
        ["L'art. 3, p. 12 et le vol. 7.", "L'homme partit, etc.", "Il revint."],
    ],
    "es": [
        ["El Sr. López y la Sra. Ruiz viven en EE. UU. Nadie lo sabe."],
        ["Vive en la Avda. Colón, n. 5.", "La Dra. Sanz, p. ej. Ana, no."],
    ],
    "pt": [["O Sr. Silva e a Dra. Reis, na Av. Brasil.", "Ela saiu, etc."]],
    "it": [["Il sig. Rossi e il dott. Neri, cfr. Eco.", "La S.p.A. Fiat no."]],
    "ca": [["El Sr. Pla i la Dra. Mas, p. ex. Anna.", "El núm. 5 no."]],
    "ro": [["Dl. Pop și dr. Ion, str. Florilor nr. 5.", "El a plecat."]],
    "ru": [
        [
            "Он жил на ул. Ленина, д. 5, в г. Пскове.",
            "Она уехала в 1990 г.",
            "Он ждал.",
        ],
        ["Л. Н. Толстой и А. П. Чехов, т. е. Классики.", "Это всё."],
        ["Хлеб, соль и т. д. Потом он ушёл.", "В XIX в. Россия росла."],
    ],
    "uk": [["Він жив у м. Києві на вул. Франка, ім. Шевченка.", "Це все."]],
    "bg": [["Живее в гр. София, ул. Шипка, напр. Център.", "Това е."]],
    "el": [
        ["Πού πας;", "Δεν ξέρω, π.χ. Αθήνα, σελ. 5.", "Ο κ. Παπάς ήρθε."],
        ["Έγινε το 300 π.Χ.", "Ο πόλεμος έληξε."],
    ],
    "hy": [["Նա եկավ։", "Մենք գնացինք:", "Դուք մնացիք։"]],
    "ka": [["ის მოვიდა.", "ჩვენ წავედით.", "თბილისი დიდია."]],
    "id": [["Ia tinggal di Jl. Sudirman No. 5, Kab. Bogor.", "Dr. Ir. Budi."]],
    "vi": [["GS. TS. Nguyễn Văn An ở TP. Huế.", "Ông là người tốt."]],
    "hi": [["डॉ. सिंह ने कहा।", "वह घर गया।", "श्री. ए. के. वर्मा आए।"]],
    "ta": [["எம். ஜி. ராமச்சந்திரன் ஒரு நடிகர்.", "அவர் வாழ்ந்தார்."]],
    "te": [["డా. రావు, ఎన్. టి. రామారావు వచ్చారు.", "అతను వెళ్ళాడు."]],
    "ml": [["ഡോ. നായർ, എം. ടി. വാസുദേവൻ വന്നു.", "അദ്ദേഹം പോയി."]],
    "ar": [["جاء د. محمد إلى مصر.", "هو طبيب.", "هل تعرف؟", "نعم."]],
    "am": [["እሱ መጣ።", "እኛ ሄድን።", "ማን ነው፧", "እኔ ነኝ።"]],
    "km": [["គាត់មកដល់ហើយ។", "យើងទិញផ្លែឈើ បន្លែ។ល។", "ល្អ។"]],
    "my": [["သူလာသည်။", "ငါတို့သွားသည်။"]],
    # A language without rules has those of English.
    "xx": [["Mr. Smith went to the U.S. army.", "The end."]],
}
SPACED = [
    ["यह एक वाक्य है।", "यह दूसरा है।"],
    ["هل تعرف؟", "نعم أعرف."],
    ["یہ پہلا جملہ ہے۔", "یہ دوسرا ہے۔"],
]


@pytest.mark.parametrize("expected", ENGLISH + SPACED)
def test_sentences_of_spaced_text_are_found(expected):
    assert sentences.split(" ".join(expected)) == expected


@pytest.mark.parametrize("language", LANGUAGES)
def test_sentences_end_by_the_rules_of_their_language(language):
    for expected in LANGUAGES[language]:
        assert sentences.split(" ".join(expected), language) == expected


@pytest.mark.parametrize("code, like", [("nb", "no"), ("bs", "hr")])
def test_languages_share_rules(code, like):
    for expected in LANGUAGES[like]:
        assert sentences.split(" ".join(expected), code) == expected


@pytest.mark.parametrize("language", ["th", "lo"])
def test_text_without_full_stops_ends_at_spaces(language):
    text = " ".join([prose.NEWS[language]] * 5)
    found = sentences.split(text, language)
    assert " ".join(found) == text
    # As long as sentences of English, and most of them no fragments.
    assert 100 <= sorted(map(len, found))[len(found) // 2] < 200
    # Spaces around numbers and signs of repetition are inside of sentences.
    clause = prose.NEWS["th"][:90].replace(" ", "")
    for inside in ("ปี 2560 มี", "เร็วๆ นี้"):
        assert len(sentences.split(f"{clause}{clause}{inside}", "th")) == 1


def test_tibetan_ends_at_a_mark_after_enough_text():
    phrase = "བོད་ཀྱི་སྐད་ཡིག་ནི་རྒྱལ་ཁབ་ཀྱི་སྐད་ཡིག་ཡིན། "
    found = sentences.split(phrase * 20, "bo")
    assert 3 < len(found) < 10
    assert all(sentence.endswith("།") for sentence in found)


def test_every_table_is_complete():
    table = language_tables.read("sentences")
    for code, entry in table.items():
        assert set(entry) <= {
            *("starters", "words", "names", "numbers", "last", "ordinals"),
            *("initials", "marks", "letters", "without", "pause", "as"),
        }, code
        assert entry.get("as", "en") in table
        assert sentences.split("A b. C d.", code)


@pytest.mark.parametrize("expected", UNSPACED)
def test_sentences_without_spaces_are_found(expected):
    assert sentences.split("".join(expected)) == expected


def test_line_feed_ends_a_sentence():
    text = "A Headline Without a Stop\nIt begins\n\n\nby Mr.\nSmith. He\r\nx"
    assert sentences.split(text) == [
        "A Headline Without a Stop",
        "It begins",
        "by Mr.",
        "Smith.",
        "He",
        "x",
    ]


@pytest.mark.parametrize("text", ["", " ", "\n", " \n\t\n "])
def test_empty_text_has_no_sentences(text):
    assert sentences.split(text) == []


def test_no_character_is_lost():
    rng = random.Random(0)
    pieces = list(".!?…。！？｡।؟۔\"'()[]“”‘’「」』）,;: \n\t\u3000\xa0") + [
        "Mr",
        "U.S",
        "Inc",
        "a",
        "The",
        "I",
        "on",
        "3.5",
        "No",
        "...",
        "……",
        "中文",
        "と",
        "été",
        "Über",
        "🙂",
        "e\u0301",
        "\u200d",
        "J",
        "iPod",
        "XIV",
        "z",
        "12",
        "ก" * 120,
    ]
    for _ in range(3000):
        text = "".join(rng.choices(pieces, k=rng.randrange(40)))
        found = sentences.split(text, rng.choice(["", "de", "el", "th", "hr"]))
        assert "".join("".join(found).split()) == "".join(text.split())
        assert all(s and s == s.strip() for s in found), repr(text)


@pytest.mark.parametrize(
    "text",
    [
        "." * 100_000,
        '."' * 50_000,
        ". " * 50_000,
        "。」" * 50_000,
        "a." * 50_000,
        "." + " " * 100_000 + "a",
        "…" * 100_000 + "，",
        ". " + '"' * 100_000 + "a",
        "x" * 100_000 + ". The",
    ],
)
def test_malicious_text_takes_linear_time(text):
    # Quadratic time for a megabyte would be many minutes.
    text = text * 10
    assert "".join("".join(sentences.split(text)).split()) == (
        "".join(text.split())
    )
