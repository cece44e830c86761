"""Pairs of claims and passages that were not looked at while the rules were developed."""

from __future__ import annotations

from tests.answering.citations.citation_pairs import API, APPLICATION, MOUNTAIN, POOL, PRINTER, make_pairs

# Held out: no rule was tuned on these.
HELD_OUT = [
    *make_pairs(
        PRINTER,
        supported={
            "Replace the drum after 12000 pages.": "number form",
            "Toner isn't included in delivery.": "negation kept",
            "Use paper between 60 and 105 g/m².": "paraphrase",
        },
        unsupported={
            "Toner is included.": "negation",
            "Replace the drum after 20,000 pages.": "number",
            "The device may be operated outdoors.": "negation",
            "The printer has a duplex unit.": "unrelated",
        },
    ),
    *make_pairs(
        APPLICATION,
        supported={
            "The application deadline is 15 May.": "paraphrase",
            "Candidates need a master's degree or 5 years of experience.": "number form",
            "Travel costs are reimbursed up to €300.": "number form",
            "Applications sent by e-mail won't be considered.": "negation kept",
        },
        unsupported={
            "Interviews take place in Paris.": "entity",
            "Travel costs are reimbursed up to 500 euros.": "number",
            "Applications by e-mail are considered.": "negation",
            "Candidates need a bachelor's degree.": "entity",
            "Applications close on 15 March.": "number",
        },
    ),
    *make_pairs(
        API,
        supported={
            "A page has at most 100 items.": "paraphrase",
            "Requests that lack a key are rejected with status 401.": "synonym",
            "Keys expire 90 days after creation unless renewed.": "paraphrase",
        },
        unsupported={
            "Keys never expire.": "negation",
            "The API returns at least 100 items per page.": "opposite",
            "Requests without a key are accepted.": "opposite",
            "Rate limits apply per key.": "unrelated",
            "Keys expire after 90 hours unless they are renewed.": "unit",
        },
    ),
    *make_pairs(
        MOUNTAIN,
        supported={
            "Hochgolling has a height of 2862 m.": "number form",
            "From the Gollinghütte, the ascent takes 6 hours.": "number form",
            "The hut is closed between November and April.": "paraphrase",
        },
        unsupported={
            "The hut is open from November to April.": "opposite",
            "The ascent takes six days.": "unit",
            "Hochgolling is 3,862 metres high.": "number",
            "Dogs are not allowed on the lower trail.": "negation",
            "Overnight stays cost 40 euros.": "unrelated",
        },
    ),
    *make_pairs(
        POOL,
        supported={
            "The pool isn't heated and is open in summer.": "clauses kept",
            "Soap is not provided, but swimmers must shower before they enter.": "clauses kept",
            "Nobody may swim when the flag is red.": "clauses kept",
            "Towels are not included, but lockers are free.": "clauses kept",
            "Since it is not supervised, the sauna is not open to children.": "clauses kept",
        },
        unsupported={
            "The pool is not open in summer and is not heated.": "clause turned",
            "The pool is open in summer and is heated.": "clause turned",
            "Swimmers must shower before they enter, and soap is provided.": "clause turned",
            "When the flag is not red, nobody may swim.": "clause turned",
            "Lockers are not free; towels are not included.": "clause turned",
            "The sauna is open to children because it is not supervised.": "clause turned",
            "The sauna is not open to children because it is supervised.": "clause turned",
        },
    ),
]
