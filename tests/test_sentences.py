"""Sentences are split at the right places, and no text is lost."""

import random

import pytest

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
SPACED = [
    ["यह एक वाक्य है।", "यह दूसरा है।"],
    ["هل تعرف؟", "نعم أعرف."],
    ["یہ پہلا جملہ ہے۔", "یہ دوسرا ہے۔"],
]


@pytest.mark.parametrize("expected", ENGLISH + SPACED)
def test_sentences_of_spaced_text_are_found(expected):
    assert sentences.split(" ".join(expected)) == expected


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
    ]
    for _ in range(3000):
        text = "".join(rng.choices(pieces, k=rng.randrange(40)))
        found = sentences.split(text)
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
