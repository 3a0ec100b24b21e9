"""The language of a text is guessed from its first words, or not at all."""

import random

import pytest

from helpers import prose
from tfrecord_builders.quality import language_guess, word_hashes

TEXTS = {
    "en": "The old bridge was closed in March, and no one knows when it will "
    "be opened again. The mayor says that there is not enough money.",
    "de": "Die alte Brücke wurde im März gesperrt, und niemand weiß, wann sie "
    "wieder geöffnet wird. Der Bürgermeister sagt, dass das Geld fehlt.",
    "nl": "De oude brug werd in maart gesloten en niemand weet wanneer hij "
    "weer open gaat. De burgemeester zegt dat er niet genoeg geld is.",
    "sv": "Den gamla bron stängdes i mars och ingen vet när den öppnas igen. "
    "Borgmästaren säger att det inte finns tillräckligt med pengar.",
    "da": "Den gamle bro blev lukket i marts, og ingen ved, hvornår den åbner "
    "igen. Borgmesteren siger, at der ikke er penge nok til det.",
    "fr": "Le vieux pont a été fermé en mars et personne ne sait quand il sera "
    "ouvert de nouveau. Le maire dit que la ville n'a pas assez d'argent.",
    "es": "El viejo puente se cerró en marzo y nadie sabe cuándo se abrirá de "
    "nuevo. El alcalde dice que no hay dinero para las obras.",
    "pt": "A velha ponte foi fechada em março e ninguém sabe quando será "
    "aberta de novo. O prefeito diz que não há dinheiro para as obras.",
    "it": "Il vecchio ponte è stato chiuso a marzo e nessuno sa quando sarà "
    "riaperto. Il sindaco dice che la città non ha i soldi per i lavori.",
    "pl": "Stary most zamknięto w marcu i nikt nie wie, kiedy będzie znów "
    "otwarty. Burmistrz mówi, że na to nie ma pieniędzy.",
    "cs": "Starý most byl v březnu uzavřen a nikdo neví, kdy se znovu otevře. "
    "Starosta říká, že na to není dost peněz, ale že se to změní.",
    "hu": "A régi hidat márciusban lezárták, és senki nem tudja, hogy mikor "
    "nyitják meg újra. A polgármester szerint nincs elég pénz.",
    "fi": "Vanha silta suljettiin maaliskuussa, eikä kukaan tiedä, milloin se "
    "avataan. Kaupunginjohtaja sanoo, että rahaa ei ole. Hän on huolissaan.",
    "tr": "Eski köprü mart ayında kapatıldı ve ne zaman açılacağını kimse "
    "bilmiyor. Belediye başkanı bunun için yeterli para olmadığını ve bu "
    "yıl olmayacağını söyledi.",
    "ru": "Старый мост закрыли в марте, и никто не знает, когда его откроют. "
    "Мэр говорит, что на это нет денег.",
    "uk": "Старий міст закрили в березні, і ніхто не знає, коли його "
    "відкриють. Мер каже, що на це немає грошей.",
    "el": "Η παλιά γέφυρα έκλεισε τον Μάρτιο και κανείς δεν ξέρει πότε θα "
    "ανοίξει ξανά.",
    "ar": "أغلق الجسر القديم في مارس ولا أحد يعرف متى سيفتح. قال رئيس البلدية "
    "إنه لا يوجد مال لهذا العمل في هذا العام.",
    "hi": "पुराना पुल मार्च में बंद कर दिया गया था और किसी को नहीं पता कि वह कब "
    "खुलेगा। महापौर ने कहा कि इस काम के लिए पैसा नहीं है।",
    "ta": "பழைய பாலம் மார்ச் மாதத்தில் மூடப்பட்டது.",
    "th": prose.NEWS["th"],
    "lo": prose.NEWS["lo"],
    "km": prose.NEWS["km"],
    "my": prose.NEWS["my"],
    "ko": prose.NEWS["ko"],
    "zh": prose.NEWS["zh"],
    "ja": prose.NEWS["ja"],
}


def guess(*texts):
    return language_guess.guess(texts, word_hashes.Words(texts))


def test_languages_are_told_apart():
    assert guess(*TEXTS.values()) == list(TEXTS)
    # Alone, or among others.
    for language, text in TEXTS.items():
        assert guess(text) == [language]


def test_capitals_do_not_matter():
    assert guess(TEXTS["de"].upper(), TEXTS["ru"].upper()) == ["de", "ru"]


@pytest.mark.parametrize(
    "text", ["", "Die", "12 34 56", "!?", "El Niño", "🙂🙂🙂🙂"]
)
def test_too_few_words_give_no_language(text):
    assert guess(text) == [""]


def test_names_and_made_up_words_give_no_language():
    rng = random.Random(0)
    syllables = [a + b + c for a in "bdfgklm" for b in "aeiou" for c in "nrs"]
    texts = [
        " ".join(
            "".join(rng.choices(syllables, k=rng.randint(1, 3)))
            for _ in range(100)
        )
        for _ in range(50)
    ]
    assert guess(*texts).count("") > 45
