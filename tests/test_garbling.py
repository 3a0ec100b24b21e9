"""Garbled text is told from text of any script."""

import pytest

from tfrecord_builders.quality import garbling

TEXTS = {
    "amharic": "ወንዙ ከፍ ብሏል ድልድዮቹም ተዘግተዋል።",
    "arabic": "ارتفع النهر وأغلقت الجسور حتى الصباح.",
    "armenian": "Գետը բարձրացավ, և կամուրջները փակ էին։",
    "bengali": "নদীর জল বেড়েছে এবং সেতুগুলি বন্ধ।",
    "burmese": "မြစ်ရေတက်ပြီး တံတားများ ပိတ်ထားသည်။",
    "cherokee": "ᎤᏪᏴ ᎤᏔᎾ ᎨᏒᎩ.",
    "chinese": "河水上涨，桥梁一直关闭到早上。",
    "czech": "Řeka stoupla a mosty byly zavřené.",
    "english": "The river was high and the bridges were closed.",
    "georgian": "მდინარე ადიდდა და ხიდები დაიკეტა.",
    "greek": "Το ποτάμι ανέβηκε και οι γέφυρες έκλεισαν.",
    "hebrew": "הנהר עלה והגשרים נסגרו עד הבוקר.",
    "hindi": "नदी चढ़ गई और पुल सुबह तक बंद रहे।",
    "japanese": "川が増水し、橋は朝まで閉鎖された。",
    "khmer": "ទន្លេឡើងខ្ពស់ ហើយស្ពានត្រូវបានបិទ។",
    "korean": "강물이 불어나 다리가 아침까지 닫혔다.",
    "persian": "رودخانه بالا آمد و پل‌ها بسته می‌شوند.",
    "russian": "Река поднялась, и мосты были закрыты.",
    "tamil": "ஆறு உயர்ந்தது, பாலங்கள் மூடப்பட்டன.",
    "thai": "แม่น้ำสูงขึ้นและสะพานถูกปิด",
    "tibetan": "གཙང་པོ་མཐོ་བས་ཟམ་པ་རྣམས་བཀག",
    "vietnamese": "Nước sông dâng cao và các cây cầu bị đóng.",
    # Scripts and emoji of plane 1, some newer than Python 3.10.
    "adlam": "𞤀𞤣𞤤𞤢𞤥 𞤆𞤵𞤤𞤢𞤪",
    "gothic": "𐌰𐍄𐍄𐌰 𐌿𐌽𐍃𐌰𐍂",
    "kawi": "\U00011f04\U00011f14 \U00011f12\U00011f2a",
    "emoji": "👩‍👩‍👧 🫠🪿 😀\U0001fae9",
    "ideographs of plane 3": "\U00030edd\U00030ede \U000323b0",
}


@pytest.mark.parametrize("language", TEXTS)
def test_no_script_is_garbled_but_its_bytes_in_utf_16_are(language):
    text = TEXTS[language]
    assert garbling.undefined_share(text) == 0
    for encoding in ("utf-16-le", "utf-16-be", "utf-32-le"):
        wrong = text.encode(encoding).decode("utf-8", "replace")
        assert garbling.is_garbled(wrong), encoding


@pytest.mark.parametrize(
    "text, share",
    [
        ("a b\nc\td\x0b\x85", 0),
        ("abc\0", 0.25),
        ("é\ufffd \ufffd\ufffd", 0.75),
        ("中\ue000", 0.5),  # Private use.
        ("中\U000f0000", 0.5),
        ("中\U00050000", 0.5),  # A plane without characters.
        ("中\uffff", 0.5),  # Never to be a character.
        ("中\u0378", 0.5),  # Not assigned, among Greek letters.
        ("x\ud800", 0.5),
        ("", 0),
        (" \n", 0),
    ],
)
def test_the_share_is_of_the_visible_characters(text, share):
    assert garbling.undefined_share(text) == share


def test_a_few_wrong_characters_garble_no_text():
    assert not garbling.is_garbled("The caf\ufffd is open.\0")
    assert garbling.is_garbled("caf\ufffd\ufffd\0")
