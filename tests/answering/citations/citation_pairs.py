"""Hand-labelled pairs of a sentence and the passage that it cites, used to choose how sentences are scored.

Written for this project. A pair is supported if a careful reader of the passage would agree with the sentence.
"""

from __future__ import annotations

from dataclasses import dataclass

REFUNDS = (
    "# Returns\n\nA refund takes 14 days from the day the parcel reaches us. It is paid to the card that was"
    " charged. Opened software cannot be returned. For orders above 200 euros we pay the return shipping."
)
SHIPPING = (
    "Shipping is free above 50 euros. Parcels to Austria and Switzerland arrive within three to five working days."
    " Express delivery costs 12.90 euros and is not available on islands. We do not ship to post office boxes."
)
LEAVE = (
    "Every employee has 30 days of paid leave per calendar year. Up to 5 days may be carried over until 31 March."
    " Unused leave beyond that expires and is not paid out. Requests go to the team lead at least two weeks before"
    " the first day of leave."
)
BACKUPS = (
    "Backups of the production database are taken every night at 02:00 UTC and stored in Frankfurt for 90 days."
    " They are encrypted with AES-256 by keys that only the platform team holds. A restore was last tested in May"
    " 2024 and took 47 minutes. Staging is not backed up."
)
KETTLE = (
    "Before first use, boil the kettle twice with fresh water and discard it. Never immerse the base in water."
    " Descale the kettle every three months with citric acid; vinegar damages the seal. The kettle switches itself"
    " off after 30 seconds without water."
)
SERVER = (
    "The server listens on port 8080 unless PORT is set. Connections that are idle for more than 60 seconds are"
    " closed. TLS is off by default; set TLS_CERT and TLS_KEY to enable it. At most 500 clients may be connected at"
    " once, and further ones are refused with status 503."
)
MEDICINE = (
    "Adults take one tablet of 400 mg every eight hours. The daily dose must not exceed 1,200 mg. Do not give the"
    " tablets to children under 12 years. If you miss a dose, take it as soon as you remember, but never two at the"
    " same time."
)
COMPANY = (
    "Nordlicht GmbH was founded in Leipzig in 1998 by Ada Brandt and Tom Keller. In 2019 the company moved to"
    " Dresden. Revenue rose from 4.2 million euros in 2021 to 6.8 million euros in 2022. Tom Keller left the board"
    " in 2020; Ada Brandt is still its chair."
)
RENT = (
    "The monthly rent is 950 euros and is due on the third working day. The deposit amounts to three months' rent."
    " The tenant may keep cats but needs written permission for dogs. Either party may terminate the lease with a"
    " notice of three months. The landlord pays for repairs above 120 euros."
)
SCIENCE = (
    "Water boils at 100 °C at sea level. At an altitude of 3,000 metres the boiling point falls to about 90 °C, so"
    " food takes longer to cook. Adding salt raises the boiling point only slightly. A pressure cooker raises it to"
    " 121 °C."
)
POLICY = (
    "Remote work is allowed for up to three days a week. Working from abroad requires approval by HR and is limited"
    " to 20 days per year. Company laptops must be encrypted and locked when unattended. Private devices may not be"
    " used for customer data."
)
LIBRARY = (
    "Members may borrow ten books for four weeks. A loan is extended twice, unless somebody has reserved the book."
    " After the due date a fee of 0.50 euros a day is charged. The reading room is open from Monday to Saturday and"
    " closed on Sunday."
)

OBSERVATORY = (
    "If the door is not locked, the alarm lamp of the observatory is on. Visitors may take photographs but must not"
    " use a flash, and tripods are not allowed unless the guide agrees. Children do not pay, students pay half and"
    " adults pay 12 euros. Guests who have not booked may not enter the dome; cats and dogs are not admitted."
)


@dataclass(frozen=True, slots=True)
class Pair:
    """A claim, the passage that it cites, the label, and the kind of difficulty."""

    claim: str
    passage: str
    is_supported: bool
    kind: str


def make_pairs(passage: str, *, supported: dict[str, str], unsupported: dict[str, str]) -> list[Pair]:
    return [
        *(Pair(claim, passage, is_supported=True, kind=kind) for claim, kind in supported.items()),
        *(Pair(claim, passage, is_supported=False, kind=kind) for claim, kind in unsupported.items()),
    ]


PAIRS = [
    *make_pairs(
        REFUNDS,
        supported={
            "Refunds take 14 days.": "paraphrase",
            "The money is paid back to the card that was charged.": "paraphrase",
            "Opened software can't be returned.": "negation kept",
            "If an order is above 200 euros, the shop pays the return shipping.": "paraphrase",
        },
        unsupported={
            "Refunds take 30 days.": "number",
            "Opened software can be returned.": "negation",
            "A refund takes 14 hours.": "unit",
            "Refunds are paid out in cash at the desk.": "unrelated",
            "For orders below 200 euros we pay the return shipping.": "opposite",
        },
    ),
    *make_pairs(
        SHIPPING,
        supported={
            "Shipping is free for orders above €50.": "number form",
            "Parcels to Austria arrive within 3 to 5 working days.": "number form",
            "Express delivery costs 12.9 euros.": "number form",
            "Post office boxes are not served: we do not ship to them.": "negation kept",
            "Express delivery is not available on islands.": "part",
        },
        unsupported={
            "Shipping is free above 80 euros.": "number",
            "Parcels to Norway arrive within three to five working days.": "entity",
            "Express delivery is available on islands.": "negation",
            "We ship to post office boxes.": "negation",
            "Gift wrapping is offered at the checkout.": "unrelated",
        },
    ),
    *make_pairs(
        LEAVE,
        supported={
            "Employees get 30 days of paid leave each calendar year.": "paraphrase",
            "Five days at most may be carried over until 31 March.": "number form",
            "Leave that is unused beyond that expires.": "part",
            "Leave must be requested from the team lead at least two weeks before it starts.": "paraphrase",
        },
        unsupported={
            "Employees get 25 days of paid leave per calendar year.": "number",
            "Up to 5 days may be carried over until 30 June.": "number",
            "Unused leave is paid out.": "negation",
            "Requests go to the head of human resources at least two weeks before the first day.": "entity",
            "Parental leave lasts up to 14 months.": "unrelated",
        },
    ),
    *make_pairs(
        BACKUPS,
        supported={
            "Production backups are kept for 90 days in Frankfurt.": "paraphrase",
            "The backups are encrypted with AES-256.": "verbatim",
            "The last restore test, in May 2024, took 47 minutes.": "paraphrase",
            "Staging isn't backed up.": "negation kept",
            "Database backups run every night at 02:00 UTC.": "paraphrase",
        },
        unsupported={
            "Production backups are stored in Dublin for 90 days.": "entity",
            "The backups are encrypted with AES-128.": "number",
            "A restore took 47 seconds.": "unit",
            "Staging is backed up every night.": "negation",
            "The platform team answers tickets within one hour.": "unrelated",
        },
    ),
    *make_pairs(
        KETTLE,
        supported={
            "Descale the kettle every 3 months, using citric acid.": "number form",
            "The base must never be immersed in water.": "negation kept",
            "You should boil fresh water twice in the kettle before the first use.": "paraphrase",
            "Without water, the kettle turns itself off after 30 seconds.": "paraphrase",
            "Vinegar damages the seal.": "part",
        },
        unsupported={
            "Descale the kettle every three weeks with citric acid.": "unit",
            "The base can be immersed in water.": "negation",
            "Descale the kettle every six months with citric acid.": "number",
            "The kettle comes with a warranty of two years.": "unrelated",
            "The kettle switches itself on after 30 seconds without water.": "opposite",
        },
    ),
    *make_pairs(
        SERVER,
        supported={
            "By default the server listens on port 8080.": "paraphrase",
            "Idle connections are closed after 60 seconds.": "paraphrase",
            "TLS is disabled by default.": "synonym",
            "A maximum of 500 clients can be connected at once.": "paraphrase",
            "Clients beyond that are refused with status 503.": "paraphrase",
        },
        unsupported={
            "By default the server listens on port 8443.": "number",
            "TLS is on by default.": "opposite",
            "Idle connections are closed after 60 minutes.": "unit",
            "Further clients are refused with status 429.": "number",
            "Requests are logged as JSON.": "unrelated",
        },
    ),
    *make_pairs(
        MEDICINE,
        supported={
            "Adults take a 400 mg tablet every 8 hours.": "number form",
            "Don't exceed a daily dose of 1200 mg.": "number form",
            "Children under 12 must not be given the tablets.": "negation kept",
            "A missed dose should be taken as soon as you remember it.": "paraphrase",
        },
        unsupported={
            "Adults take one tablet of 400 mg every four hours.": "number",
            "Adults take one tablet of 400 g every eight hours.": "unit",
            "The tablets may be given to children under 12 years.": "negation",
            "The daily dose must not exceed 2,400 mg.": "number",
            "Store the tablets in a cool, dry place.": "unrelated",
        },
    ),
    *make_pairs(
        COMPANY,
        supported={
            "Nordlicht GmbH was founded in 1998 in Leipzig.": "verbatim",
            "Revenue grew to 6.8 million euros in 2022.": "synonym",
            "Since 2019 the company has been based in Dresden, where it moved.": "paraphrase",
            "Ada Brandt still chairs the board.": "paraphrase",
        },
        unsupported={
            "Nordlicht GmbH was founded in 1998 in Dresden.": "entity",
            "Tom Keller is still the chair of the board.": "entity",
            "Revenue fell to 6.8 million euros in 2022.": "opposite",
            "Nordlicht was founded by Eva Lindner.": "entity",
            "The company employs 120 people.": "unrelated",
        },
    ),
    *make_pairs(
        RENT,
        supported={
            "The rent is 950 euros per month.": "paraphrase",
            "The deposit is three months' rent.": "paraphrase",
            "Dogs need written permission, but cats may be kept.": "paraphrase",
            "Both sides can end the lease with three months' notice.": "synonym",
            "Repairs above 120 euros are paid by the landlord.": "paraphrase",
        },
        unsupported={
            "The monthly rent is 1,950 euros.": "number",
            "The deposit amounts to three weeks' rent.": "unit",
            "Repairs below 120 euros are paid by the landlord.": "opposite",
            "The tenant pays for repairs above 120 euros.": "entity",
            "Heating costs are settled once a year.": "unrelated",
        },
    ),
    *make_pairs(
        SCIENCE,
        supported={
            "At sea level, water boils at 100°C.": "number form",
            "At 3000 metres the boiling point is about 90 °C.": "number form",
            "Salt raises the boiling point only slightly.": "verbatim",
            "In a pressure cooker the boiling point rises to 121 °C.": "paraphrase",
        },
        unsupported={
            "At sea level, water boils at 100 °F.": "unit",
            "Salt lowers the boiling point slightly.": "opposite",
            "At 3,000 metres water boils at about 80 °C.": "number",
            "Ice melts at 0 °C.": "unrelated",
            "At an altitude of 3,000 metres the boiling point rises to about 90 °C.": "opposite",
        },
    ),
    *make_pairs(
        POLICY,
        supported={
            "You may work remotely up to three days a week.": "paraphrase",
            "Working abroad needs HR approval and is limited to 20 days a year.": "paraphrase",
            "Laptops of the company must be encrypted.": "paraphrase",
            "Private devices must not be used for customer data.": "negation kept",
        },
        unsupported={
            "You may work remotely up to five days a week.": "number",
            "Private devices may be used for customer data.": "negation",
            "Working from abroad is limited to 20 weeks per year.": "unit",
            "Working from abroad requires approval by the works council.": "entity",
            "Lunch is subsidised on Fridays.": "unrelated",
        },
    ),
    *make_pairs(
        LIBRARY,
        supported={
            "Members can borrow 10 books for four weeks.": "number form",
            "A fee of €0.50 per day is charged after the due date.": "number form",
            "The reading room is closed on Sunday.": "part",
            "Loans can be extended twice unless the book is reserved by somebody.": "paraphrase",
        },
        unsupported={
            "Members may borrow ten books for four months.": "unit",
            "The reading room is open on Sunday.": "opposite",
            "A fee of 0.50 euros an hour is charged after the due date.": "unit",
            "Children may borrow films for one week.": "unrelated",
            "Members may borrow twenty books for four weeks.": "number",
        },
    ),
    *make_pairs(
        OBSERVATORY,
        supported={
            "If the door is not locked, the alarm lamp of the observatory is on.": "verbatim",
            "The observatory's alarm lamp is on when the door isn't locked.": "clauses kept",
            "Visitors may take photographs.": "part",
            "A flash must not be used, but visitors may take photographs.": "clauses kept",
            "Tripods are not allowed if the guide does not agree.": "clauses kept",
            "Adults pay 12 euros, students pay half and children don't pay.": "clauses kept",
            "Dogs and cats are not admitted.": "clauses kept",
            "Guests who have not booked can't enter the dome.": "clauses kept",
        },
        unsupported={
            "If the door is locked, the alarm lamp of the observatory is on.": "clause turned",
            "If the door is not locked, the alarm lamp of the observatory is not on.": "clause turned",
            "If the door is not locked, the alarm lamp of the observatory is off.": "clause turned",
            "If the door is locked, the alarm lamp of the observatory is not on.": "clause turned",
            "Visitors may not take photographs and must not use a flash.": "clause turned",
            "Visitors may take photographs and use a flash.": "clause turned",
            "Tripods are not allowed if the guide agrees.": "clause turned",
            "Tripods are allowed unless the guide agrees.": "clause turned",
            "Children pay, students pay half and adults pay 12 euros.": "clause turned",
            "Children do not pay, students do not pay half and adults pay 12 euros.": "clause turned",
            "Guests who have booked may not enter the dome.": "clause turned",
            "Cats are admitted and dogs are not admitted.": "clause turned",
        },
    ),
]

PRINTER = (
    "The printer's drum should be replaced after 12,000 pages. Toner is not included. Use only paper of 60 to 105"
    " g/m². The device is certified for offices, and it must not be operated outdoors."
)
APPLICATION = (
    "Applications close on 15 May. Candidates need a master's degree or five years of experience. Interviews are"
    " held in Lyon; travel costs are reimbursed up to 300 euros. Applications by e-mail are not considered."
)
API = (
    "The API returns at most 100 items per page. Use the cursor to fetch the next page. Keys expire after 90 days"
    " unless they are renewed. Requests without a key are rejected with 401."
)
MOUNTAIN = (
    "Mount Hochgolling is 2,862 metres high. The ascent takes six hours from the Gollinghütte. Dogs are allowed on"
    " the lower trail only. The hut is closed from November to April."
)
POOL = (
    "The pool is open in summer and is not heated. Swimmers must shower before they enter, but soap is not provided."
    " When the flag is red, nobody may swim, and when it is green, swimming is allowed. Lockers are free; towels are"
    " not included unless you hold a season ticket. The sauna is not open to children because it is not supervised."
)
