"""Statistics of texts: words in every script, stop words by language, repetition; words in addresses."""

from collections import Counter
from itertools import islice
from math import isqrt

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mm1.data.config import PRESETS
from mm1.data.prepare.addresses import decoration_in
from mm1.data.prepare.filters import Filters
from mm1.data.prepare.languages import USUAL_SHARES, language_of, mixed_share, stop_word_share
from mm1.data.prepare.words import PUNCTUATION, STOP_WORDS, Words, character_repetition, letter_share
from mm1.data.sample import ImagePart, Sample, TextPart
from tests.support.mixtures import encoded_image

TEXTS = {
    "de": "Der Bundestag hat über den Entwurf des neuen Gesetzes beraten,"
    " weil die Regeln für den Schutz der Daten nicht ausreichen.",
    "fr": "Le musée a ouvert ses portes il y a plus d'un siècle et on"
    " y trouve des objets qui racontent l'histoire de la ville.",
    "ru": "Город был основан в начале восемнадцатого века на берегу реки,"
    " и сегодня в нём живут более миллиона человек из всех стран.",
    "pl": "Miasto leży nad rzeką i jest znane ze swoich zabytków, a w ciągu"
    " roku przyjeżdża tu wielu turystów, którzy chcą je zobaczyć.",
    "ro": "Orașul se află pe malul râului și este cunoscut pentru piața sa;"
    " în fiecare an vin aici mii de oameni care vor să vadă.",
    "hu": "A város a folyó partján fekszik, és híres a régi piacáról. Minden évben több ezer ember jön ide,"
    " hogy megnézze a várat és a környező falvakat is.",  # its article is a stop word of English
    "tr": "Şehir nehrin kıyısında yer alır ve her yıl binlerce kişi bu"
    " güzel yerleri görmek için buraya gelir ve daha sonra gider.",
    "hi": "यह शहर नदी के किनारे पर बसा है और हर साल यहाँ हज़ारों लोग आते हैं जो इस किले को देखना चाहते हैं।",
    "ar": "تقع المدينة على ضفاف النهر وهي معروفة بأسواقها القديمة وفي كل"
    " عام يأتي إليها الزوار الذين يريدون رؤية القلعة التي بنيت هنا.",
}
RELATIVES = {
    "es": "La ciudad está a orillas del río y es conocida por sus mercados; todos los años vienen miles de personas que quieren"
    " ver el castillo y las calles donde vivieron sus abuelos.",
    "pt": "A cidade fica na margem do rio e é conhecida pelos seus mercados; todos os anos vêm milhares de pessoas que querem"
    " ver o castelo e as ruas onde viveram os seus avós.",
    "gl": "O concello está na beira do río e é coñecido polos seus mercados; todos os anos veñen moitas persoas que queren ver"
    " o castelo e as rúas nas que viviron os seus avós.",
    "it": "La città si trova sulla riva del fiume ed è conosciuta per i suoi mercati; ogni anno arrivano migliaia di persone"
    " che vogliono vedere il castello e le strade.",
    "ca": "La ciutat és a la vora del riu i és coneguda pels seus mercats; cada any hi venen milers de persones que volen veure"
    " el castell i els carrers on van viure els seus avis.",
    "nl": "De stad ligt aan de rivier en is bekend om haar markten; elk jaar komen er duizenden mensen die het kasteel willen"
    " zien en door de oude straten willen lopen.",
    "af": "Die stad lê aan die rivier en is bekend vir sy ou mark, en elke jaar kom daar baie mense wat die kasteel wil sien.",
    "no": "Byen ligger ved elven og er kjent for sine markeder; hvert år kommer det tusenvis av mennesker som vil se slottet"
    " og de gamle gatene.",
}
"""Languages that share many words with another one."""
ENGLISH = (
    "The museum has been open for more than a century and you can see there the things that tell the story of the town,"
    " as well as what is left of the castle that was on the hill before it."
)
OTHERS = {
    "Chinese": "这座城市位于河边,以其古老的市场而闻名。每年有成千上万的人来到这里参观城堡和古老的街道。",
    "Japanese": "この町は川のほとりにあり、古い市場で知られている。毎年何千人もの人々が城や古い通りを見るためにここを訪れる。",
    "Thai": "เมืองนี้ตั้งอยู่ริมแม่น้ำและเป็นที่รู้จักจากตลาดเก่า ทุกปีมีผู้คนหลายพันคนมาที่นี่เพื่อชมปราสาท",
    "Khmer": "ទីក្រុងនេះស្ថិតនៅតាមមាត់ទន្លេ និងត្រូវបានគេស្គាល់ដោយសារផ្សារចាស់របស់វា",
    "Lao": "ເມືອງນີ້ຕັ້ງຢູ່ແຄມແມ່ນ້ຳ ແລະເປັນທີ່ຮູ້ຈັກຍ້ອນຕະຫຼາດເກົ່າ",
    "Burmese": "ဤမြို့သည် မြစ်ကမ်းနားတွင် တည်ရှိပြီး ရှေးဟောင်းဈေးများကြောင့် လူသိများသည်။",
    "Tibetan": "གྲོང་ཁྱེར་འདི་གཙང་པོའི་འགྲམ་དུ་ཡོད་པ་དང་ཁྲོམ་རྙིང་པས་སྐད་གྲགས་ཡོད།",
    "Korean": "이 도시는 강가에 위치하고 있으며 오래된 시장으로 유명하다."
    " 해마다 수천 명의 사람들이 성과 옛 거리를 보기 위해 찾는다.",
    "Icelandic": "Borgin stendur við ána og er þekkt fyrir gamla markaði sína. Á"
    " hverju ári koma þangað þúsundir manna sem vilja sjá kastalann.",
    "Serbian": "Град се налази на обали реке и познат је по својим пијацама."
    " Сваке године овде долазе људи који желе да виде тврђаву.",
    "Tamil": "இந்த நகரம் ஆற்றின் கரையில் அமைந்துள்ளது மற்றும் அதன் பழைய சந்தைகளுக்கு பெயர் பெற்றது எனவே பலர் இங்கு வந்து செல்கின்றனர் ஒவ்வொரு ஆண்டும்",
}


def fault_of(text, preset="paper", source="text"):
    filters = Filters(PRESETS[preset].of(source))
    parts = [TextPart(text)] if source == "text" else [ImagePart(0), TextPart(text)]
    sample = Sample("", source, parts, [] if source == "text" else [encoded_image(0, size=(160, 160))], {"origin": "o"})
    return "" if filters.apply(sample) else "+".join([*filters.tally.removed, *filters.tally.dropped])


@pytest.mark.parametrize("preset", ["paper", "obelics"])
@pytest.mark.parametrize("name", [*TEXTS, *OTHERS])
def test_texts_of_all_languages_pass(name, preset):
    text = (TEXTS | OTHERS)[name]
    assert fault_of(text, preset) == ""
    assert fault_of(text, preset, "captions") == ""
    assert fault_of(text, preset, "interleaved") == ""


@pytest.mark.parametrize("language", RELATIVES)
def test_related_languages_are_told_apart(language):
    words = Words(RELATIVES[language])
    similar = {"gl": ("gl", "pt", "es"), "no": ("no", "da")}.get(language, (language,))
    assert language_of(words) in similar
    assert stop_word_share(words, language_of(words)) > 0.3


@pytest.mark.parametrize(
    "text",
    [
        "A ferry for sale.",
        "The ferry to the island leaves at ten.",
        "A man at work.",
        "over the hill",
        "The letter I.",
        "on for at",
    ],
)
def test_a_few_words_of_english_are_english(text):
    assert language_of(Words(text)) == "en"


@pytest.mark.parametrize("preset", ["paper", "obelics"])
@pytest.mark.parametrize("language", [language for language in TEXTS | RELATIVES if language != "hi"])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
def test_a_page_of_two_languages_passes(language, preset, share):
    other = (TEXTS | RELATIVES)[language].split() * 3
    english = ENGLISH.split()[: round(len(other) * (1 - share) / share)]
    other = other[: round(len(english) * share / (1 - share))]
    text = " ".join([*english, *other])
    assert fault_of(text, preset) in ("", "document_word_repetition", "document_character_repetition")
    assert fault_of(f"{' '.join(other)} {' '.join(english)}", preset) == fault_of(text, preset)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([*STOP_WORDS, *(f"goods{number}" for number in range(200))]), min_size=20, max_size=200))
def test_english_is_judged_by_its_own_list(chosen):
    """Words without a second language: two lists do not explain more than one."""
    words = Words(" ".join(chosen))
    if language_of(words) == "en":
        assert mixed_share(words, "en") == words.stop_word_share


@pytest.mark.parametrize("language", TEXTS)
def test_a_language_has_its_own_stop_words(language):
    words = Words(TEXTS[language])
    assert language_of(words) in (language, "mr" if language == "hi" else language)  # Hindi and Marathi share many words
    assert stop_word_share(words, language) > 0.3 > words.stop_word_share


@pytest.mark.parametrize("name", OTHERS)
def test_a_language_without_a_list_is_named_as_such(name):
    assert language_of(Words(OTHERS[name])) is None


@pytest.mark.parametrize(
    "text", ["shoes cheap buy size leather boots men women offer discount shipping", "xq " * 20, "", "12 34 ..."]
)
def test_text_of_plain_letters_without_stop_words_is_judged_as_english(text):
    assert language_of(Words(text)) == "en"


def test_a_list_of_words_is_dropped_in_other_languages_too():
    spam = "Schuhe Stiefel Leder Herren Damen Angebot Rabatt Versand kostenlos Marke Verkauf Shop Laden der die das"
    assert fault_of(spam) == "document_stop_words"
    assert fault_of(f"{spam} shoes cheap buy boots leather men women offer discount shipping") == "document_stop_words"
    assert set(TEXTS) <= set(USUAL_SHARES)


def test_a_node_is_judged_in_the_language_of_its_document():
    filters = Filters(PRESETS["obelics"].interleaved)
    parts = [
        ImagePart(0),
        TextPart(TEXTS["de"]),
        TextPart("Leder Stiefel Herren Damen Rabatt"),
        TextPart("und das ist auch gut so"),
    ]
    kept = filters.apply(Sample("", "interleaved", parts, [encoded_image(0, size=(160, 160))], {"origin": "o"}))
    assert [part.text for part in kept.sample.parts[1:]] == [TEXTS["de"], "und das ist auch gut so"]
    assert filters.tally.removed == {"node_stop_words": 1}


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("a b", 2),
        ("世界", 2),
        ("hello世界 world。", 4),
        ("「世界」、です。", 5),
        ("GPU搭載の2台", 6),
        ("ที่นี่", 2),  # marks above and below belong to their consonant
        ("ကောင်း", 2),  # and those that follow it
        ("རྙིང་", 2),
        ("안녕 세계", 2),
        ("  \u3000 ", 0),
        ("。", 1),
        ("\U00020000\U00020001", 2),
    ],
)
def test_words_are_counted_by_characters_where_there_are_no_spaces(text, count):
    assert len(Words(text)) == count


def test_long_and_repeated_texts_without_spaces_are_dropped():
    assert fault_of("这座城市") == "document_length"
    assert fault_of("城" * 50_001) == "document_length"
    assert fault_of(OTHERS["Chinese"] * 4).startswith("document_")
    assert fault_of("好" * 257, source="captions") == "caption_length"
    assert fault_of("好" * 256, source="captions") == ""


def test_letters_are_counted_without_their_marks():
    assert letter_share("ab 1") == pytest.approx(2 / 3)
    assert letter_share(OTHERS["Burmese"]) > 0.9 and letter_share(TEXTS["hi"]) > 0.9
    assert letter_share("e\u0301") == letter_share("é") == 1
    assert letter_share("") == 0


def test_repetition_and_stop_words_are_those_of_their_definitions():
    words = "one two three four five six seven"
    assert Words(words).repetition == 0
    assert Words(f"{words} {words}").repetition == pytest.approx(6 / 10)
    assert character_repetition("short") == 0
    assert character_repetition("abcdefghijklmnop") == 0
    assert character_repetition("a" * 30) == 1
    assert Words("The cat, and dog").stop_word_share == 0.5


PIECES = st.sampled_from(
    ["a", "the", "(And", "of.", "cat", "dog", "Été", "İx", "ΟΔΟΣ", "...", "\0", " ", "\n", "\u2003", "\x1f", "\x85"]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(PIECES, max_size=60).map("".join) | st.text(st.characters(codec="utf-8", max_codepoint=0xDFF), max_size=200))
@example("a" * 300_000)
def test_statistics_are_those_of_plain_python(text):
    words, split = Words(text), text.split()
    assert len(words) == len(split)
    stop_words = sum(word.strip(PUNCTUATION).lower() in STOP_WORDS for word in split)
    assert words.stop_word_share == pytest.approx(stop_words / max(1, len(split)))
    counts = Counter(zip(*(islice(split, start, None) for start in range(5)), strict=False))
    assert words.repetition == pytest.approx(sum(count for count in counts.values() if count > 1) / max(1, counts.total()))
    characters = Counter(text[start : start + 10] for start in range(len(text) - 9))
    most = characters.most_common(min(isqrt(len(characters)), sum(count > 1 for count in characters.values())))
    assert character_repetition(text) == pytest.approx(sum(count for _, count in most) / max(1, characters.total()))


@given(st.lists(PIECES, max_size=30).map("".join), st.integers(1, 6))
def test_shingles_are_runs_of_words_without_case(text, length):
    split = text.lower().split()
    runs = [tuple(split[start : start + length]) for start in range(max(1, len(split) - length + 1))] if split else []
    shingles = Words(text).shingles(length).tolist()
    assert len(shingles) == len(runs)
    assert len(set(shingles)) == len(set(runs))
    assert Words(f"  {text.upper().lower()}\n").shingles(length).tolist() == Words(text.upper()).shingles(length).tolist()


DECORATIONS = PRESETS["paper"].interleaved.image.address_words


@pytest.mark.parametrize(
    "address",
    [
        *(
            "https://x/Logo_small.png",
            "http://a/img/icons/x.png",
            "/siteLogo.png",
            "a/HTMLLogo2.png",
            "LOGOs.png",
            "btnIcon@2x.png",
        ),
        *(
            "http://a/?u=%2Flogo.png",
            "http://a/my%20logo.png",
            "favicon.ico",
            "/wp-content/plugins/a.jpg",
            "http://[bad/logo",
            "Buttons/1",
        ),
    ],
)
def test_decoration_is_named_in_an_address(address):
    assert decoration_in(address, DECORATIONS)


@pytest.mark.parametrize(
    "address",
    [
        *(
            "http://a.invalid/silicon-valley/lexicon-0.jpg",
            "catalogo/iconic.jpg",
            "http://icon.com/a.jpg",
            "//cdn.logo.com/x.jpg",
            "",
        ),
        *(
            "emoticons/1.png",
            "iconography.png",
            "logotype.png",
            "http://a/cat%C3%A1logo.png",
            "http://a/cat%E1logo.png",
            "cata\u0301logo",
        ),
        *("data:image/png;base64,iVBO/logo/+icon+", "unbuttoned.jpg", "http://widget.example/photo.jpg", "http://logo.x"),
    ],
)
def test_other_words_are_no_decoration(address):
    assert decoration_in(address, DECORATIONS) == ""
