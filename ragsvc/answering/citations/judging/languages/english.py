"""English."""

from __future__ import annotations

from ragsvc.answering.citations.judging.languages.language import Language

ENGLISH = Language(
    code="en",
    stemmer="english",
    function="""a an the is are was were be been being am has have had do does did will would 's as that which who whom
        whose there here then than so such too also just very please of to own itself themselves himself herself""",
    pronouns="it its he his him she her they their them this these those you your we our us i my one's",
    prepositions="""in on at by for from with into onto over under above below through during within after before
        since until between among against about per across along around behind beside toward towards upon via near
        out off up down outside inside throughout following prior_to instead_of due_to because_of""",
    coordinators="and or but nor plus while whereas",
    negations="""not no never none nobody nothing neither without n't no_longer nowhere hardly
        lacks lack""",
    conditions="""if unless except only provided when whenever where once as_long_as in_case provided_that subject_to
        depending depends apart_from excluding otherwise should_you even_if assuming whether""",
    hedges="""claim claims claimed claiming alleged allegedly alleges rumour rumoured rumor rumored reportedly reported
        according_to says said say believe believes believed think thinks thought suggests suggested suggest might could
        maybe perhaps possibly probably likely expected expects plan plans planned planning propose proposes proposed
        proposal draft intends intend considers considering consider retracted withdrawn denied denies deny disputed
        false myth wrong incorrect avoid dangerous refuses supposed seems appears hope hopes hoped aims request
        requested requests wants want wanted would should_have estimate estimated estimates forecast predicted ? tried
        tries failed attempted argues argued would_have used_to formerly supposedly unclear doubt doubts unconfirmed
        discussed discuss discusses recommends_against warned warns asked asks example hypothetical almost nearly""",
    markers={
        "permit": "may can able allowed permitted entitled is_allowed_to are_allowed_to",
        "oblige": "must has_to have_to required shall needs_to need_to obliged is_required_to are_required_to",
        "advise": "should ought recommended",
        "all": "all every each any everyone everybody anyone always entire whole both",
        "some": "some sometimes often usually mostly most many several few partly generally typically occasionally",
        "least": "at_least minimum no_less_than or_more",
        "most": "at_most up_to maximum no_more_than or_less as_many_as",
        "more": "more_than over exceeds exceed exceeding greater_than longer_than larger_than higher_than more",
        "less": "less_than fewer_than below under shorter_than smaller_than lower_than less fewer",
        "before": "before until no_later_than prior_to",
        "after": "after since following",
        "about": "about approximately around roughly circa nearly almost",
        "first": "first earliest",
        "last": "last latest final",
    },
    numbers={
        "0": "zero", "2": "two twice", "3": "three", "4": "four", "5": "five", "6": "six", "7": "seven", "8": "eight",
        "9": "nine", "10": "ten", "11": "eleven", "12": "twelve", "13": "thirteen", "14": "fourteen", "15": "fifteen",
        "16": "sixteen", "17": "seventeen", "18": "eighteen", "19": "nineteen", "20": "twenty", "30": "thirty",
        "40": "forty", "50": "fifty", "60": "sixty", "70": "seventy", "80": "eighty", "90": "ninety", "0.5": "half",
    },
    opposites=(
        ("open opens opened opening", "close closes closed shut"),
        ("increase increases increased rise rises rose raise raised grow grew grows", "decrease decreases decreased fall falls fell drop drops dropped reduce reduced lower lowered shrank decline declined"),
        ("start starts started begin begins began", "end ends ended stop stops stopped finish finishes finished"),
        ("allow allows allowed permit permits permitted", "forbid forbids forbidden prohibit prohibits prohibited banned"),
        ("include includes included", "exclude excludes excluded"),
        ("accept accepts accepted approve approved approves", "refuse refuses refused reject rejects rejected"),
        ("mandatory required compulsory obligatory", "optional voluntary"),
        ("enable enables enabled on", "disable disables disabled off"),
        ("buy buys bought", "sell sells sold"), ("win wins won", "lose loses lost"), ("true", "false"),
        ("left", "right"), ("import imports imported", "export exports exported"), ("hot warm", "cold cool"),
        ("safe", "dangerous unsafe"), ("free", "chargeable paid"), ("public", "private"), ("early", "late"),
        ("high higher", "low lower"), ("long longer", "short shorter"), ("full", "empty"), ("legal", "illegal"),
        ("arrive arrives arrived", "leave leaves left depart departs departed"), ("indoors", "outdoors"),
        ("monthly", "weekly daily yearly annually"), ("weekly", "daily yearly annually"), ("daily", "yearly annually"),
        ("permanent", "temporary"), ("internal", "external"), ("morning", "evening afternoon"),
        ("above", "below"), ("hard", "soft"), ("dry", "wet"), ("north", "south"), ("east", "west"),
        ("locked", "unlocked"), ("encrypted", "unencrypted"), ("passed", "failed"), ("before", "after"),
    ),
    synonyms={
        "employee": "employee employees staff", "phone": "phone telephone", "buy": "buy buys bought purchase purchases purchased",
        "begin": "begin begins began start starts started", "company": "company firm", "euro": "euro euros eur €",
        "dollar": "dollar dollars usd $", "percent": "percent % per-cent", "receive": "receive receives received get gets got",
        "keep": "keep keeps kept", "pay": "pay pays paid", "send": "send sends sent", "give": "give gives given gave",
        "take": "take takes took taken", "make": "make makes made", "hold": "hold holds held", "write": "write writes written wrote",
        "lead": "lead leads led", "leave": "leave leaves", "find": "find finds found", "show": "show shows shown showed",
        "grow": "grow grows grew grown", "rise": "rise rises rose risen", "fall": "fall falls fell fallen",
        "build": "build builds built", "buying": "buying", "choose": "choose chooses chose chosen", "cost": "cost costs price",
        "person": "person people persons", "child": "child children", "hour": "hour hours h", "minute": "minute minutes min",
        "year": "year years annual", "kilogram": "kg kilogram kilograms", "metre": "m metre metres meter meters",
    },
)  # fmt: skip
