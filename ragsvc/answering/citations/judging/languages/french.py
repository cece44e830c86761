"""French."""

from __future__ import annotations

from ragsvc.answering.citations.judging.languages.language import Language

FRENCH = Language(
    code="fr",
    stemmer="french",
    function="""le la les l un une des du de d est sont était étaient être été a ont avait avaient sera seront qui que qu
        dont ce c y très aussi se s où ici là alors ainsi et/ou ne n veuillez""",
    pronouns="""il elle ils elles on nous vous lui leur leurs son sa ses notre nos votre vos cet cette ces celui celle
        ceux celles je tu mon ma mes""",
    prepositions="""en à au aux dans par pour sur sous avec chez vers depuis pendant durant dès jusqu jusque entre contre
        avant après lors selon envers hors parmi derrière devant malgré""",
    coordinators="et ou mais ni tandis ainsi_que alors_que",
    negations="""pas jamais aucun aucune rien personne sans non plus_de_possibilité nul nulle guère ne_plus n'est_plus""",
    conditions="""si sauf seulement uniquement lorsque quand excepté hormis à_condition pourvu tant_que dès_que sous_réserve
        à_moins en_cas seul seule seuls seules selon dépend exclusivement sinon""",
    hedges="""prétend prétendent affirme affirment affirmation rumeur rumeurs soi-disant selon dit disent croit pense
        pourrait pourraient peut-être probablement possiblement sans_doute prévoit prévu prévue prévoient projet projette
        propose proposé proposée proposition envisage rétracté rétractée retiré retirée démenti démentie nie faux fausse
        espère souhaite veut demande réclame estime estimé attendu attendue ? tente tenté semble paraît conteste contesté
        discute étudie éviter dangereux dangereuse serait seraient aurait auraient devrait_être presque ancien autrefois
        avertit déconseillé""",
    markers={
        "permit": "peut peuvent pouvez autorisé autorisée autorisés autorisées permis permise permet permettent possible",
        "oblige": "doit doivent devez obligatoire obligatoires obligé tenu requis requise nécessaire faut",
        "advise": "devrait devraient conseillé recommandé recommandée",
        "all": "tous toutes tout toute chaque toujours chacun chacune entier entière",
        "some": "certains certaines quelques parfois souvent généralement plupart plusieurs beaucoup peu habituellement",
        "least": "au_moins minimum", "most": "au_plus maximum jusqu'à", "more": "plus_de supérieur supérieure plus",
        "less": "moins_de inférieur inférieure moins", "before": "avant", "after": "après depuis dès",
        "about": "environ presque", "first": "premier première premiers", "last": "dernier dernière derniers",
    },
    numbers={
        "0": "zéro", "2": "deux", "3": "trois", "4": "quatre", "5": "cinq", "6": "six", "7": "sept", "8": "huit",
        "9": "neuf", "10": "dix", "11": "onze", "12": "douze", "13": "treize", "14": "quatorze quatorzaine", "15": "quinze",
        "16": "seize", "17": "dix-sept", "18": "dix-huit", "19": "dix-neuf", "20": "vingt", "30": "trente", "40": "quarante",
        "50": "cinquante", "60": "soixante", "100": "cent", "1000": "mille", "0.5": "demi demie moitié",
    },
    opposites=(
        ("ouvert ouverte ouverts ouvertes ouvre ouvrent", "fermé fermée fermés fermées ferme ferment"),
        ("augmente augmenté hausse progressé", "baisse baissé diminue diminué reculé recule"), ("commence débute début", "termine finit fin"),
        ("autorisé autorisée permis", "interdit interdite interdits défendu"), ("inclus incluse compris comprise", "exclu exclue exclus"),
        ("accepté acceptée approuvé approuvée", "refusé refusée rejeté rejetée"), ("obligatoire obligatoires", "facultatif facultative facultatifs"),
        ("activé activée", "désactivé désactivée"), ("achète acheté", "vend vendu"), ("gagné gagne", "perdu perd"),
        ("gauche", "droite"), ("chaud chaude", "froid froide"), ("gratuit gratuite gratuits gratuites", "payant payante payants payantes"),
        ("public publique", "privé privée"), ("matin", "soir après-midi"), ("quotidien quotidienne", "hebdomadaire mensuel mensuelle annuel annuelle"),
        ("hebdomadaire", "mensuel mensuelle annuel annuelle"), ("mensuel mensuelle", "annuel annuelle"), ("nord", "sud"), ("est", "ouest"),
        ("long longue", "court courte"), ("haut haute", "bas basse"), ("plein pleine", "vide"), ("importe", "exporte"),
        ("temporaire", "permanent permanente définitif"), ("valable valide", "invalide périmé"), ("interne", "externe"),
    ),
    synonyms={
        "euro": "euro euros eur €", "pourcent": "% pourcent", "heure": "heure heures h", "minute": "minute minutes min",
        "salarié": "salarié salariés salariée employé employés employée", "payer": "paie paient paye payer payé payée",
        "téléphone": "téléphone tél", "an": "an ans année années", "durer": "dure durent duré", "coûter": "coûte coûtent",
    },
)  # fmt: skip
