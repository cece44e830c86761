"""German."""

from __future__ import annotations

from ragsvc.answering.citations.judging.languages.language import Language

GERMAN = Language(
    code="de",
    stemmer="german",
    function="""der die das den dem des ein eine einen einem einer eines ist sind war waren wird werden wurde wurden
        worden sein hat haben hatte hatten dass welche welcher welches da hier dort dann als so auch sehr bitte zu sich
        selbst es wie""",
    pronouns="""er sie ihr ihre ihren ihrem ihrer seine seinen seinem seiner dieser diese dieses diesem diesen wir
        unser unsere uns euch man ihm ihn ihnen mein meine dein deine jener jene""",
    prepositions="""in im ins an am auf bei beim von vom mit für gegen durch über unter vor nach seit bis zwischen aus
        zum zur um während innerhalb außerhalb wegen statt neben hinter entlang per pro ab laut trotz""",
    coordinators="und oder aber sowie sondern während wohingegen",
    negations="""nicht kein keine keinen keinem keiner keines nie niemals nichts niemand ohne weder nirgends kaum
        nicht_mehr fehlt fehlen""",
    conditions="""wenn falls sofern nur außer ausgenommen sobald solange soweit vorausgesetzt es_sei_denn lediglich
        ausschließlich abgesehen andernfalls sonst ob abhängig je_nach bloß""",
    hedges="""behauptet behauptung behaupten angeblich gerücht gerüchte laut sagt sagte meint glaubt könnte könnten
        vielleicht möglicherweise wahrscheinlich vermutlich voraussichtlich plant planen geplant plan vorschlag
        vorgeschlagen schlägt schlug entwurf beabsichtigt erwägt zurückgezogen widerrufen bestritten bestreitet falsch
        irrtum soll_angeblich hofft wünscht möchte fordert forderte erwartet geschätzt schätzt prognose ? versucht
        scheint womöglich dürfte wollte will wollen beantragt diskutiert prüft unklar zweifelt vermeiden gefährlich
        würde würden fast beinahe warnt warnte früher ehemals""",
    markers={
        "permit": "darf dürfen kann können erlaubt gestattet zulässig",
        "oblige": "muss müssen verpflichtet erforderlich nötig notwendig pflicht",
        "advise": "soll sollen sollte sollten empfohlen",
        "all": "alle allen aller alles jede jeder jedes jeden jedem immer stets sämtliche ganze beide",
        "some": "einige manche manchmal oft meist meistens viele mehrere wenige teilweise gewöhnlich üblicherweise",
        "least": "mindestens wenigstens minimum", "most": "höchstens maximal bis_zu maximum",
        "more": "mehr_als über länger_als größer_als mehr", "less": "weniger_als unter kürzer_als kleiner_als weniger",
        "before": "vor bis spätestens", "after": "nach seit ab frühestens", "about": "etwa circa ca ungefähr rund fast",
        "first": "erste ersten erster zuerst", "last": "letzte letzten letzter zuletzt",
    },
    numbers={
        "0": "null", "2": "zwei zweimal", "3": "drei dreimal", "4": "vier", "5": "fünf", "6": "sechs", "7": "sieben",
        "8": "acht", "9": "neun", "10": "zehn", "11": "elf", "12": "zwölf", "13": "dreizehn", "14": "vierzehn",
        "15": "fünfzehn", "16": "sechzehn", "17": "siebzehn", "18": "achtzehn", "19": "neunzehn", "20": "zwanzig",
        "30": "dreißig", "40": "vierzig", "50": "fünfzig", "60": "sechzig", "70": "siebzig", "80": "achtzig",
        "90": "neunzig", "0.5": "halb halbe halben",
    },
    opposites=(
        ("geöffnet offen öffnet öffnen", "geschlossen zu schließt schließen"),
        ("steigt stieg gestiegen steigen erhöht zugenommen wuchs", "sinkt sank gesunken sinken gesenkt abgenommen fiel gefallen"),
        ("beginnt begann beginnen startet", "endet endete enden stoppt"), ("erlaubt gestattet zulässig", "verboten untersagt unzulässig"),
        ("enthalten inbegriffen inklusive", "ausgeschlossen exklusive"), ("angenommen akzeptiert genehmigt", "abgelehnt zurückgewiesen verweigert"),
        ("verpflichtend obligatorisch pflicht", "freiwillig optional"), ("aktiviert eingeschaltet", "deaktiviert ausgeschaltet"),
        ("kauft kaufte gekauft", "verkauft verkaufte"), ("gewann gewonnen gewinnt", "verlor verloren verliert"),
        ("links", "rechts"), ("warm heiß", "kalt kühl"), ("sicher", "unsicher gefährlich"), ("kostenlos gratis kostenfrei", "kostenpflichtig"),
        ("öffentlich", "privat"), ("hoch höher", "niedrig niedriger"), ("lang länger", "kurz kürzer"), ("voll", "leer"),
        ("täglich", "wöchentlich monatlich jährlich"), ("wöchentlich", "monatlich jährlich"), ("monatlich", "jährlich"),
        ("intern", "extern"), ("morgens vormittags", "abends nachmittags"), ("verschlüsselt", "unverschlüsselt"),
        ("befristet", "unbefristet"), ("importiert", "exportiert"), ("gültig", "ungültig"), ("bestanden", "durchgefallen"),
        ("norden nördlich", "süden südlich"), ("trocken", "nass"), ("ankunft", "abfahrt"), ("einfach", "schwierig"),
    ),
    synonyms={
        "euro": "euro euros eur €", "prozent": "prozent %", "mitarbeiter": "mitarbeiter mitarbeitende mitarbeitenden beschäftigte beschäftigten",
        "stunde": "stunde stunden std h", "minute": "minute minuten min", "jahr": "jahr jahre jahren jahres", "tag": "tag tage tagen tages",
        "woche": "woche wochen", "monat": "monat monate monaten monats", "zahlen": "zahlt zahlen bezahlt bezahlen gezahlt zahlte",
        "bekommen": "bekommt bekommen erhält erhalten erhielt", "telefon": "telefon telefonisch", "kilogramm": "kg kilogramm",
        "kosten": "kostet kosten", "dauern": "dauert dauern dauerte", "gehen": "geht gehen ging", "liegen": "liegt liegen lag",
    },
)  # fmt: skip
