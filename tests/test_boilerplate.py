"""Lines of boilerplate are removed, and similar sentences are kept."""

import pytest

from tfrecord_builders.quality import boilerplate

TEXT = "Heavy rain closed two roads on the north coast on Tuesday."
OTHER_TEXT = "新华社北京电，记者今天从有关部门获悉，全国居民收入同比实际增长。"


@pytest.mark.parametrize(
    "line",
    [
        "This website uses cookies to improve your experience.",
        "We use cookies to give you the best experience.",
        "By continuing to use this site you agree to our use of cookies.",
        "Accept all cookies",
        "Please enable JavaScript to view the comments.",
        "© 2023 The Daily News. All rights reserved.",
        "Copyright 2019 The Associated Press. All rights reserved. This "
        "material may not be published, broadcast or redistributed.",
        "Alle Rechte vorbehalten.",
        "Share this article",
        "Share on Facebook",
        "Share on Facebook, Twitter and LinkedIn",
        "Follow us on Twitter",
        "Tweet",
        "Sign up for our daily newsletter",
        "Subscribe now",
        "Log in to comment",
        "Advertisement",
        "ADVERTISEMENT",
        "Read more »",
        "Click here to read the full story",
        "Skip to main content",
        "Privacy Policy | Terms of Use",
        "版权所有 未经授权不得转载",
        "無断転載を禁じます",
        "By using this website you agree to our Terms of Service.",
        "The Daily News uses cookies.",
        "Continue reading",
        "Show more",
        "Leave a reply",
        "View comments",
        "Story continues below",
        "SPONSORED CONTENT",
        "Contact us",
        "Impressum",
        "Datenschutzerklärung",
        "Print this page",
        "Register",
        "Login",
        "Sign in",
        "Pin it",
        "Post",
        "Email this",
        "E-mail",
        "Like us",
        "Find us on Facebook",
        "(c) 2019 Reuters",
        "No part of this article may not be reproduced without permission.",
        "Get our newsletter",
        "TOUS DROITS RÉSERVÉS",
        "プライバシーポリシー",
    ],
)
def test_boilerplate_is_removed_and_counted(line):
    text = f"{TEXT}\n{line}\n{OTHER_TEXT}"
    assert boilerplate.remove(text) == (f"{TEXT}\n{OTHER_TEXT}", 1)


@pytest.mark.parametrize(
    "line",
    [
        "Share prices fell by 3 percent on Tuesday.",
        "She baked cookies for the whole school.",
        "The cookie policy of the bakery was plain: one for each child.",
        "Copyright law protects authors for 70 years after their death.",
        "The advertisement was shown for the first time in 1984.",
        "Follow us, he said, and walked into the dark.",
        "Read more books, the teacher said.",
        "JavaScript is a language for the Web.",
        "Newsletters are the oldest form of news.",
        "The school uses cookies as a reward for its pupils.",
        "By using cookies of her own recipe she won the contest.",
        "Registered nurses met on Monday.",
        "Post offices will be closed.",
        "and",
    ],
)
def test_similar_sentences_are_kept(line):
    assert boilerplate.remove(line) == (line, 0)


def test_each_line_is_judged_alone():
    text = "\n".join(["Tweet", TEXT, "Share", "", TEXT] * 20)
    kept = "\n".join([TEXT, "", TEXT] * 20)
    assert boilerplate.remove(text) == (kept, 40)
    assert boilerplate.remove("Tweet") == ("", 1)


@pytest.mark.parametrize("text", ["", TEXT, OTHER_TEXT])
def test_text_without_boilerplate_is_unchanged(text):
    assert boilerplate.remove(text) == (text, 0)
