"""Spanish."""

from __future__ import annotations

from ragsvc.answering.citations.judging.languages.language import Language

SPANISH = Language(
    code="es",
    stemmer="spanish",
    function="""el la los las un una unos unas de del es son era eran fue fueron ser sido está están estaba estaban
        estar ha han había habían hay será serán que cuyo cuya lo se muy también aquí allí así al como""",
    pronouns="""él ella ellos ellas su sus le les nos usted ustedes este esta estos estas ese esa esos esas aquel
        aquella nuestro nuestra nuestros mi mis tu tus esto eso""",
    prepositions="""a en con por para sobre bajo desde hasta entre contra durante según tras ante hacia antes después
        dentro fuera junto mediante""",
    coordinators="y e o u pero ni sino mientras",
    negations="no nunca jamás ningún ninguna ninguno nada nadie sin tampoco ya_no carece",
    conditions="""si salvo excepto solo sólo solamente únicamente cuando siempre_que a_menos_que en_caso con_tal
        exclusivamente según depende dependiendo mientras_que una_vez sujeto""",
    hedges="""afirma afirman afirmación supuestamente presunto presuntamente rumor rumores dice dicen cree creen piensa
        podría podrían quizá quizás tal_vez probablemente posiblemente prevé previsto prevista prevén planea planean plan
        propone propuesto propuesta proyecto borrador pretende considera retirado retirada retractado desmentido desmiente
        falso falsa espera esperan desea quiere pide solicita solicitó estima estimado ? intenta intentó parece discute
        niega negó evitar peligroso peligrosa sería serían habría debería_haber casi antiguamente advierte estudia alega
        según_parece""",
    markers={
        "permit": "puede pueden permitido permitida permitidos permite permiten autorizado autorizada posible",
        "oblige": "debe deben obligatorio obligatoria obligatorios obligado requerido requiere necesario hay_que tiene_que tienen_que",
        "advise": "debería deberían recomienda recomendado conviene",
        "all": "todo toda todos todas cada siempre cualquier cualquiera ambos entero",
        "some": "algunos algunas algún alguna veces menudo generalmente mayoría varios varias muchos pocos normalmente suele suelen",
        "least": "al_menos mínimo por_lo_menos", "most": "como_máximo máximo hasta", "more": "más_de superior más", "less": "menos_de inferior menos",
        "before": "antes hasta", "after": "después tras desde", "about": "aproximadamente unos alrededor cerca",
        "first": "primer primero primera", "last": "último última",
    },
    numbers={
        "0": "cero", "2": "dos", "3": "tres", "4": "cuatro", "5": "cinco", "6": "seis", "7": "siete", "8": "ocho", "9": "nueve",
        "10": "diez", "11": "once", "12": "doce", "13": "trece", "14": "catorce", "15": "quince", "16": "dieciséis", "17": "diecisiete",
        "18": "dieciocho", "19": "diecinueve", "20": "veinte", "30": "treinta", "40": "cuarenta", "50": "cincuenta", "60": "sesenta",
        "70": "setenta", "80": "ochenta", "90": "noventa", "100": "cien ciento", "1000": "mil", "0.5": "medio media mitad",
    },
    opposites=(
        ("abierto abierta abiertos abre abren", "cerrado cerrada cerrados cierra cierran"), ("aumenta aumentó aumentado subió sube creció", "disminuye disminuyó bajó baja cayó reduce redujo"),
        ("empieza comienza comenzó inicio", "termina terminó acaba finaliza fin"), ("permitido permitida", "prohibido prohibida prohibidos prohíbe"),
        ("incluido incluida incluye", "excluido excluida excluye"), ("aceptado aceptada aprobado aprobada aprobó", "rechazado rechazada rechazó denegado"),
        ("obligatorio obligatoria", "opcional voluntario voluntaria"), ("activado activada", "desactivado desactivada"), ("compra compró", "vende vendió"),
        ("ganó gana", "perdió pierde"), ("izquierda", "derecha"), ("caliente", "frío fría"), ("gratis gratuito gratuita", "pago pagado"),
        ("público pública", "privado privada"), ("mañana", "tarde noche"), ("diario diaria diariamente", "semanal mensual anual"), ("semanal semanalmente", "mensual anual"),
        ("mensual mensualmente", "anual anualmente"), ("norte", "sur"), ("este", "oeste"), ("largo larga", "corto corta"), ("alto alta", "bajo baja"),
        ("lleno llena", "vacío vacía"), ("importa", "exporta"), ("temporal", "permanente"), ("válido válida", "inválido caducado"), ("interno", "externo"),
    ),
    synonyms={
        "euro": "euro euros eur €", "porciento": "% porciento", "hora": "hora horas h", "minuto": "minuto minutos min",
        "empleado": "empleado empleados empleada trabajador trabajadores", "pagar": "paga pagan pagar pagado abona", "año": "año años",
        "durar": "dura duran duró", "costar": "cuesta cuestan costar",
    },
)  # fmt: skip
