"""Captions from templates, with the words on which tokenizers differ: possessives, contractions, numbers, signs, quotes."""

from __future__ import annotations

import random
from collections.abc import Iterator

_SUBJECTS = "man woman dog cat child skateboarder bus train pizza zebra umbrella kite surfer giraffe clock bench horse laptop"
_VERBS = "riding holding watching eating near under beside throwing carrying crossing painting"
_PLACES = "street beach kitchen field park table river bridge market snow station sofa fence harbour"
_ODD_TEXTS = {
    "possessive": "man's woman's dogs' James's children’s bus' its it's cat`s St. zebra‘s ladies’ Jones' 1990's A's",
    "contraction": (
        "can't won't don't isn't they're we've I'm he'd she'll cannot gonna "
        "gotta wanna lemme gimme 'tis 'twas d'ye y'all o'clock ma'am "
        "c'mon ain't shan't Isn't CAN'T can’t don’t it’s 'em "
        "'til rock'n'roll more'n dunno couldn't've mustn't y'know whatcha who's"
    ),
    "number": (
        "3 42 3.5 .5 0.75 1,000 12,500.75 1/2 3/4 1-1/2 10% -5 +7 2-3 5th 2nd 1990s '90s 100th 3D 2x4 1,2 5. ½ 1½ ¾ ² 20°"
    ),
    "time": "3:30 12:45pm 10:00 5pm 7 a.m. p.m. A.M. 10/12/2014 10-12-2014 2014-10-10 Jan. Dec. Mon. Sept. 12:30:45 '95 24/7",
    "money": "$5 $3.50 £20 €7 ¥100 5¢ US$5 5$ C$4 $1,000 #1 €2.50 20%",
    "abbreviation": (
        "Mr. Mrs. Dr. St. Ave. etc. e.g. i.e. vs. U.S. U.S.A. U.K. D.C. "
        "No. no. Inc. Co. Jr. Mt. approx. ft. in. T.V. Ph.D. a.k.a. lbs. "
        "Blvd. Rd. Corp. Calif. miss. Miss. fig. b. A."
    ),
    "hyphen": (
        "t-shirt well-lit man-made 5-year-old mother-in-law black-and-white up-close semi-truck x-ray "
        "- -- --- – — a—b a–b half- -eaten "
        "co-ed 50-50 anti-war U.S.-made stop--sign self_made"
    ),
    "slash": "and/or black/white w/ w/o he/she / AC/DC bus/train a/b/c \\ 1/2/3",
    "ampersand": "& AT&T R&D B&W salt&pepper M&M's Q&A &amp; + a+b = * # @ ~ ^ | _ C++",
    "quote": "\"stop\" 'go' “open” ‘closed’ ''shut'' ``wait'' \" ' ” “ ’ «oui» „ja“ \"5 '5 'a' \"'hi'\" ‹x›",
    "bracket": "(left) [right] {both} ( ) ((x)) <b> < > <3 (a)(b) [1] :) ;-) :( :D =) ^_^ <!--x-->",
    "ellipsis": "... … .... wait... ... .. . ..... wait...what",
    "mark": "! ? ?! !!! ??? !? , ; : ,, Yahoo! hey! ¡hola! ¿que? 。 、",
    "emoji": "😀 🐶 ❤ ★ ☃ ✓ → 👍🏽 ♥ • · © ® ™ ° × ÷",
    "accent": "café naïve Zoë São jalapeño crème façade Łódź Ångström über piñata 東京 Москва cafe\u0301 entrée déjà",
    "address": "www.foo.com http://foo.com/a?b=c me@foo.com @user #tag foo.org/bar photo.jpg index.html https://x.org. x.net's",
    "french": "l'eau d'or O'Brien D'Angelo L'Oreal Hawai'i ol' nor'easter s'mores somethin' fo'c'sle Shi'ite",
    "joint": "end.The dog.cat dog,cat man:woman red;blue cat(black) dog's/cat's wi-fi's x.y.z",
}
_ODD_WORDS = {kind: text.split() for kind, text in _ODD_TEXTS.items()}
_ENDS = ("", "", ".", ".", " .", "!", "?", "...", ",", "..", ' "', "'", ")", " etc.", ". ")
KINDS = tuple(_ODD_WORDS)


def make_captions(number: int, seed: int = 0) -> Iterator[str]:
    """Make captions; four of five have one to three odd words, some of which touch another word."""
    rng = random.Random(seed)
    for _ in range(number):
        words = [rng.choice(("a", "A", "the", "The", "two", "some")), rng.choice(_SUBJECTS.split()), rng.choice(_VERBS.split())]
        words += ["the", rng.choice(_PLACES.split())]
        if rng.random() < 0.3:
            words += ["with", "a", rng.choice(_SUBJECTS.split())]
        for _ in range(rng.choice((0, 1, 1, 2, 3))):
            odd = rng.choice(_ODD_WORDS[rng.choice(KINDS)])
            place = rng.randint(0, len(words) - 1)
            if rng.random() < 0.1:
                words[place] += odd
            else:
                words.insert(place, odd)
        text = " ".join(words) + rng.choice(_ENDS)
        yield text.upper() if rng.random() < 0.03 else text
