"""Word lists for comparing statements: stop words, negations, numbers, units, opposites and synonyms."""

from __future__ import annotations

# Words without content. Excludes words such as `before` and `more`, which can reverse a statement.
_STOP_WORD_LIST = """
a about according all also am an and any are as at be because been being both but by can could did do does each either
else for from get gets got had has have he her here him his how however i if in into is it its itself may me might must
my of on once or other our out shall she should since so some such than that the their them then there therefore these
they this those through thus to too upon us very was we were what when where whether which while who whom whose why will
with within would you your document documents source sources text says say states stated mentions described
"""
STOP_WORDS = frozenset(_STOP_WORD_LIST.split())

NEGATIONS = frozenset({
    "not", "no", "never", "none", "nobody", "nothing", "neither", "nor", "unless", "nicht", "kein", "keine",
    "keinen", "keinem", "keiner", "nie", "niemals", "pas", "jamais", "aucun", "aucune", "nunca", "jamás", "niet",
    "geen", "nooit",
})  # fmt: skip

# A sentence with a pronoun may have its subject in an earlier sentence.
PRONOUNS = frozenset({
    "it", "its", "he", "his", "him", "she", "her", "they", "their", "them", "this", "these", "that", "those", "er",
    "sie", "es",
})  # fmt: skip

_COUNT_WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen twenty"
)
NUMBER_WORDS = {word: str(value) for value, word in enumerate(_COUNT_WORDS.split())} | {
    "thirty": "30", "forty": "40", "fifty": "50", "sixty": "60", "seventy": "70", "eighty": "80", "ninety": "90",
}  # fmt: skip
del NUMBER_WORDS["one"]  # mostly a pronoun

# The units of each dimension, with the words and signs for each unit.
_DIMENSIONS = {
    "time": {
        "millisecond": "ms millisecond milliseconds",
        "second": "s sec secs second seconds",
        "minute": "min mins minute minutes",
        "hour": "h hr hrs hour hours hourly",
        "day": "d day days daily",
        "week": "week weeks weekly",
        "month": "month months monthly",
        "year": "year years yearly annual annually annum",
    },
    "money": {
        "euro": "€ eur euro euros",
        "dollar": "$ usd dollar dollars",
        "pound": "£ gbp",
        "cent": "cent cents",
        "yen": "¥ jpy yen",
        "franc": "chf franc francs",
    },
    "length": {
        "millimetre": "mm millimetre millimetres millimeter millimeters",
        "centimetre": "cm centimetre centimetres centimeter centimeters",
        "metre": "m metre metres meter meters",
        "kilometre": "km kilometre kilometres kilometer kilometers",
        "mile": "mi mile miles",
        "inch": "inch inches",
        "foot": "ft foot feet",
    },
    "mass": {
        "microgram": "µg mcg microgram micrograms",
        "milligram": "mg milligram milligrams",
        "gram": "g gram grams",
        "kilogram": "kg kilogram kilograms",
        "tonne": "t ton tons tonne tonnes",
    },
    "volume": {
        "millilitre": "ml millilitre millilitres milliliter milliliters",
        "litre": "l litre litres liter liters",
    },
    "temperature": {"celsius": "°c celsius", "fahrenheit": "°f fahrenheit", "kelvin": "kelvin"},
    "data": {
        "byte": "byte bytes",
        "kilobyte": "kb kib kilobyte kilobytes",
        "megabyte": "mb mib megabyte megabytes",
        "gigabyte": "gb gib gigabyte gigabytes",
        "terabyte": "tb tib terabyte terabytes",
    },
    "share": {"percent": "% percent per-cent"},
    "scale": {"thousand": "thousand k", "million": "million millions", "billion": "billion billions bn"},
}
# Maps a word or sign to its unit and dimension; another unit of the same dimension is a contradiction.
UNITS = {
    word: (unit, dimension)
    for dimension, units in _DIMENSIONS.items()
    for unit, words in units.items()
    for word in words.split()
}

_OPPOSITES = (
    ("above over more exceed exceeds exceeding", "below under less fewer"),
    ("before until prior", "after following"),
    ("on enabled enable enables", "off disabled disable disables"),
    ("open opens opened", "close closes closed shut"),
    ("rise rises rose risen raise raises raised increase increases increased grow grows grew grown",
     "fall falls fell fallen lower lowers lowered decrease decreases decreased drop drops dropped decline declined"),
    ("minimum least", "maximum most"),
    ("always", "never"),
    ("allow allows allowed permit permits permitted", "forbid forbids forbidden prohibit prohibits prohibited banned"),
    ("include includes included including", "exclude excludes excluded excluding"),
    ("accept accepts accepted", "refuse refuses refused reject rejects rejected"),
    ("mandatory required compulsory", "optional voluntary"),
    ("start starts started begin begins began", "stop stops stopped end ends ended"),
    ("first earliest", "last latest"),
    ("buy buys bought", "sell sells sold"),
    ("win wins won", "lose loses lost"),
    ("true", "false"),
    ("left", "right"),
    ("import imports imported", "export exports exported"),
)  # fmt: skip
# Maps a word to its pair of opposites and its side in the pair.
SIDES = {
    word: (number, side)
    for number, pair in enumerate(_OPPOSITES)
    for side, words in enumerate(pair)
    for word in words.split()
}

# Synonyms and irregular forms that stemming does not cover.
SYNONYMS = {
    "off": "disable", "disabled": "disable", "disables": "disable", "enabled": "enable",
    "maximum": "most", "minimum": "least", "grew": "rise", "rose": "rise", "risen": "rise", "grow": "rise",
    "increase": "rise", "increased": "rise", "increases": "rise", "fell": "fall", "decreased": "fall",
    "decrease": "fall", "given": "give", "gave": "give", "kept": "keep", "paid": "pay", "took": "take", "taken": "take",
    "sent": "send", "made": "make", "began": "begin", "begun": "begin", "held": "hold", "written": "write",
    "staff": "employee", "end": "terminate", "ends": "terminate",
}  # fmt: skip
