"""English-like prose without end, in the manner of a nineteenth-century novel: the default background text.

    for sentence in sentences(seed=7): ...
    "The curate had never before seen so narrow a staircase, and Mr. Harcourt told him so with some warmth."

A grammar of sentence shapes over word lists of our own; chapters keep their people and their town. Real
books name the people, rooms and things of bAbI stories, so this text does too; but no sentence is ever a
bAbI fact ("Mary went to the kitchen."): every one passes the gate `fact_like` before it is given out.
Equal seeds give equal text on every Python since 3.2 (random.Random, seeded by a string).
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from functools import cache
from itertools import islice
from typing import Any

VERSION = "3"  # raise with any change of the text: caches and records carry it

BABI_MEN = ("John", "Daniel", "Bill", "Fred", "Jeff")
BABI_WOMEN = ("Mary", "Sandra", "Julie")
BABI_PLACES = ("bathroom", "bedroom", "garden", "hallway", "kitchen", "office", "park", "school", "cinema")
BABI_OBJECTS = ("apple", "football", "milk")
# the first word of each ("went back", "picked up", "put down"), and "is" of "Mary is in the park."
FACT_VERBS = (
    *("moved", "went", "travelled", "journeyed", "got", "took", "grabbed", "picked", "dropped", "discarded"),
    *("left", "put", "gave", "handed", "passed", "received", "is"),
)

_MEN = """
    Mr. Harcourt | Edmund | Captain Vane | Philip | Mr. Tolliver | Ambrose | Dr. Pell | Walter |
    Sir Giles | Nathaniel | Mr. Quill | Laurence | Major Stroud | Hugh | Mr. Abernethy | Gilbert |
    Barnaby | Mr. Foss | Rupert | Josiah | Colonel Brand | Simon | Mr. Penhallow | Everard | Silas |
    Mr. Dunstan | Tobias | the Reverend Mr. Lisle | Horace | Mr. Wycherley | Alfred | Luke"""
_WOMEN = """
    Eleanor | Mrs. Harcourt | Miss Pettigrew | Harriet | Lady Ashby | Susannah | Mrs. Tolliver |
    Dorothea | Miss Vane | Agnes | Mrs. Quill | Constance | Rosamund | Miss Lisle | Beatrice |
    Mrs. Abernethy | Phoebe | Aunt Lavinia | Cecily | Mrs. Foss | Margaret | Miss Dunstan | Isabel |
    Hester | Mrs. Penhallow | Louisa | Priscilla | Madame Duval | Clara | Mrs. Stroud | Winifred |
    Adelaide"""
_TOWNS = """
    Marlford | Coldbrook | Saint Audrey | Westerby | Thornwick | Ashcombe | Great Hallow | Penmouth |
    Lower Stoke | Kingsferry | Hexworth | Oldbury Cross | Ravensea | Dunmere | Tarrow | Millbridge |
    Fernhill | Carrick | Whitsand | Eastleigh Common | Brackenby | Stone Allerton | Norham |
    Wickham Ferry | Harrowdale | Long Barton | Salterton | Greywater | Upper Lyme | Corve | Deepdale |
    Maplestead"""

# Pools of words; a pool x also gives a_x, with "a" or "an" before each word, and xs, the plurals.
# An underscore is a space inside a phrase.
_WORDS = {
    "adj": """
        old new small great narrow broad heavy light dusty faded broken polished worn handsome plain crooked
        painted gilded wooden silver leather velvet brass iron stone yellow crimson grey green blue black
        white brown damp dry cold warm empty silent gloomy cheerful curious peculiar familiar forgotten
        ancient modern foreign costly cheap enormous tiny ugly pretty elegant shabby rusty ragged clumsy
        delicate solid hollow square round bright dim pale dark odd ordinary famous humble modest splendid
        dreadful excellent tolerable ruined mended unlucky precious borrowed second-hand neglected battered
        well-kept half-finished ill-made old-fashioned sombre simple noble massive slender spotless
        tarnished weather-beaten threadbare inherited English French""",
    "thing": """
        lamp letter candle clock mirror carriage umbrella bonnet ledger portrait basket kettle inkstand
        chair table cupboard trunk parcel key lantern book newspaper shawl glove ring locket purse watch
        walking-stick teapot saucer decanter bottle loaf pie hat coat boot waistcoat cradle violin piano
        trumpet drum map globe telescope pistol sword knife spoon plate tablecloth curtain carpet blanket
        pillow mattress bell whistle snuff-box cabinet bookcase desk drawer manuscript diary pamphlet
        receipt contract will banknote coin medal ribbon brooch necklace handkerchief apron ladder spade
        barrel wheelbarrow cart saddle bridle whip fiddle birdcage fender poker bellows coal-scuttle
        sideboard armchair footstool screen vase statue painting sketch telegram valentine sermon almanac
        dictionary atlas chessboard pack-saddle fishing-rod hamper cask chest wardrobe washstand
        looking-glass candlestick tinder-box portmanteau hat-box work-basket spinning-wheel""",
    "place": """
        parlour library attic cellar pantry staircase drawing-room dining-room nursery courtyard stable barn
        orchard meadow lane churchyard chapel inn market bridge harbour quay mill forge village square
        terrace shrubbery conservatory gallery corridor landing porch lodge gatehouse cottage farmhouse
        counting-house bakery bookshop theatre museum station crossroads turnpike heath moor valley
        riverbank pond wood copse hillside cliff beach lighthouse vicarage almshouse infirmary barracks
        court-house town-hall wharf warehouse workshop dairy brewhouse laundry scullery coach-house
        summer-house greenhouse paddock avenue common ferry tavern""",
    "role": """
        coachman widow curate gardener housekeeper lawyer doctor sailor soldier schoolmaster governess
        miller blacksmith baker butcher tailor innkeeper footman cook maid clerk merchant banker painter
        poet musician stranger traveller beggar pedlar shepherd farmer fisherman gamekeeper sexton bishop
        magistrate constable gaoler postman carpenter mason apothecary surgeon captain lieutenant colonel
        squire baronet countess duchess nephew niece cousin uncle aunt grandmother godfather guardian orphan
        bride bridegroom neighbour landlord lodger tenant visitor gentleman lady child boy girl nurse
        midwife dressmaker milliner bookseller printer engineer porter ostler groom page steward bailiff
        auctioneer undertaker organist chimney-sweep cobbler""",
    "temper": """
        amiable angry anxious idle honest clever foolish gentle proud timid cheerful melancholy sullen
        patient impatient talkative silent kind cruel weary grateful jealous sincere stern merry solemn
        absent-minded shrewd stubborn obliging nervous solitary respectable unhappy elderly young stout thin
        tall lame deaf sunburnt red-haired grey-haired ill-tempered good-natured soft-spoken sharp-eyed
        industrious learned ignorant penniless prosperous dignified awkward graceful prudent reckless
        sceptical superstitious devout worldly""",
    "abstract": """
        patience kindness sorrow pride ambition jealousy gratitude curiosity loneliness ingenuity charity
        poverty grief shame relief suspicion tenderness remorse anxiety fortitude melancholy hope despair
        indifference contempt admiration obstinacy politeness candour prudence folly vanity generosity
        resentment affection regret bewilderment impatience contentment disappointment resolution weariness
        reserve good-humour dread delight compassion modesty diligence courage mischief superstition
        self-reproach enthusiasm gravity cheerfulness""",
    "topic": """
        marriage debt inheritance weather politics religion farming music architecture medicine history
        economy travel manners education gardening the_war the_election the_harvest the_railway the_lawsuit
        the_price_of_corn the_new_road the_late_king the_poor_laws the_family_fortune the_opera the_tithes
        the_fever the_wedding the_funeral the_flood the_robbery the_assembly_ball the_bank the_county_hunt
        foreign_customs""",
    "adv": """
        slowly quickly quietly loudly gravely cheerfully sadly kindly sternly politely coldly warmly
        carefully carelessly patiently impatiently anxiously eagerly reluctantly thoughtfully absently
        firmly softly bitterly gently hastily heartily humbly proudly shyly stiffly suddenly timidly wearily
        abruptly calmly earnestly gloomily gratefully awkwardly gracefully innocently mournfully obstinately
        placidly resolutely sorrowfully steadily sulkily tenderly uneasily vaguely deliberately doggedly
        drily faintly indignantly listlessly""",
    "often": """
        always never often seldom rarely sometimes once secretly long certainly evidently hardly scarcely
        apparently afterwards lately formerly frequently privately openly really already almost merely""",
    # transitive, past and past participle alike; none is the verb of a bAbI fact
    "vt": """
        admired examined remembered described mentioned praised blamed repaired polished painted purchased
        wanted needed noticed inspected measured missed desired despised guarded kept lost found bought sold
        mended cleaned dusted studied watched touched opened closed covered uncovered recognised mistrusted
        feared envied ignored recommended returned borrowed promised offered refused accepted ordered
        displayed concealed regretted pawned inherited cherished sketched counted valued lifted turned
        tapped brought fetched discovered destroyed preserved restored neglected criticised coveted
        delivered demanded requested weighed""",
    "vt_inf": """
        admire examine remember describe mention praise repair polish paint purchase want need notice
        inspect measure miss guard hide keep lose find buy sell mend clean study watch touch open close
        cover recognise fear envy ignore recommend return borrow promise offer refuse accept order display
        conceal regret pawn inherit cherish sketch count value lift turn bring fetch discover destroy
        preserve restore neglect""",
    "vp_person": """
        admired respected pitied followed greeted questioned interrupted visited avoided trusted thanked
        forgave scolded comforted teased flattered obeyed consulted contradicted embraced recognised
        dismissed entertained encouraged warned welcomed invited deceived persuaded astonished amused
        offended disappointed congratulated overheard addressed begged implored accompanied nursed watched
        summoned reassured despised""",
    "vi": """
        walked hurried wandered lingered waited stood sat slept wept laughed sang listened stumbled paused
        knelt rested worked trembled smiled frowned whispered muttered hesitated ran crept strolled rode
        sheltered dozed read sewed whistled talked dined breakfasted loitered shivered sighed quarrelled
        prayed stopped stayed remained marched limped wrote fished sketched played danced hid shouted argued
        dreamed slumbered bowed""",
    "vi_ing": """
        walking waiting standing sitting sleeping weeping laughing singing listening resting working
        trembling smiling whispering muttering running strolling riding dozing reading sewing whistling
        talking dining loitering shivering sighing praying marching writing sketching dreaming bowing
        stooping staring""",
    # verbs of bAbI facts: only after pronouns and roles, never before a thing or place of bAbI
    "vi_fact": "went moved travelled journeyed passed went_back moved_off",
    "vt_fact": """
        took left dropped got grabbed picked_up put_down discarded passed_over gave_away handed_back""",
    "said": """
        said replied answered cried observed remarked exclaimed murmured returned protested declared
        repeated added whispered insisted continued""",
    "thought": """
        thought believed supposed knew felt understood hoped feared suspected imagined remembered perceived
        declared confessed insisted explained discovered acknowledged complained concluded fancied
        maintained protested admitted noticed observed heard dreamed foresaw pretended repeated""",
    "v_thing": """
        lay stood hung gleamed rattled creaked glittered trembled remained rested shone leaned fell waited
        mouldered vanished appeared rocked swung tumbled shook smoked rusted sparkled""",
    "v_feel": """
        overcame consoled tormented possessed silenced surprised sustained ruined exhausted betrayed
        distinguished governed troubled strangely_moved delighted oppressed restrained softened hardened
        visited""",
    "prep": """
        in near behind beyond beside outside before above below by opposite through across past along""",
    "daypart": """
        morning afternoon evening night midnight dusk daybreak noon sunset supper breakfast dinner tea
        church market-day""",
    "day": """
        Monday Tuesday Wednesday Thursday Friday Saturday Sunday Christmas Easter Michaelmas Lady-day
        Whitsuntide""",
    "month": "January February March April May June July August September October November December",
    "season": "spring summer autumn winter harvest-time Lent shooting-season hay-time",
    "number": """
        two three four five six seven eight nine ten eleven twelve fifteen twenty thirty forty fifty""",
    "ordinal": """
        first second third fourth fifth sixth seventh ninth tenth eleventh twelfth fifteenth twentieth""",
    "unit": "minutes hours days weeks months years nights Sundays winters summers",
    "sky": """
        rain wind fog snow mist frost sunshine moonlight thunder drizzle hail storm twilight haze sleet""",
    "v_sky": """
        beat hung drifted crept settled lingered swept broke deepened thickened cleared lifted gathered fell
        spread lay whirled ebbed raged""",
    "animal": """
        dog cat horse mare pony donkey cow pig goose hen cock pigeon rook owl raven starling parrot spaniel
        terrier greyhound mastiff kitten hare badger fox squirrel thrush blackbird swallow heron toad ox""",
    "nature": """
        oak elm willow hawthorn ivy rose lilac lavender clover bramble fern bracken heather gorse nettle
        brook river stream pool hedge ditch furrow cornfield haystack cloud star moon hill rock cliff tide
        shingle""",
    "food": """
        bread cheese mutton beef ham bacon broth porridge pudding cake honey butter cream cider ale port
        claret brandy tea coffee chocolate pears plums cherries walnuts gingerbread muffins toast eggs
        herrings oysters partridge pigeon-pie potatoes cabbage marmalade jam sherry punch""",
    "material": """
        silk cotton wool linen lace velvet satin fur oak mahogany pewter copper china marble straw wax
        ivory""",
    "gesture": """
        bow smile sigh frown nod shrug glance blush tear laugh shudder groan gesture curtsey cough stare
        whisper start yawn tremor""",
    "body": "hand arm shoulder head elbow knee foot forehead wrist cheek sleeve hair voice face finger",
    "house_part": "east_wing great_hall little_study breakfast-room old_nursery music-room blue_room",
    "hour": "one two three four five six seven eight nine ten eleven",
    "tens": "twenty thirty forty fifty sixty",
    "v_road": "wound ran climbed dipped turned led stretched",
    "room": " ".join(BABI_PLACES),
    "toy": " ".join(BABI_OBJECTS),
    "someone": " ".join(BABI_MEN + BABI_WOMEN),
}

# One alternative a line; {x} expands rule or pool x, {^x} with a capital. Of the cast: A he his him and
# B bhe bhis bhim are this paragraph's people, C another of the chapter, town and house its places.
_RULES = {
    "np": """the {adj} {thing}
        the {thing}
        {his} {adj} {thing}
        {a_adj} {thing}
        {a_adj} {thing} of {adj} {material}
        the {role}'s {adj} {thing}
        the {thing} of {a_temper} {role}
        {B}'s {adj} {thing}
        the {thing} and the {adj} {thing}
        {number} {adj} {things}""",
    "who": """the {role}
        the {temper} {role}
        {a_temper} {role}
        {B}
        the {role} from {town}
        the {role}'s {temper} {role}""",
    "role_np": """the {role}
        the {temper} {role}
        {a_temper} {role}
        the {role} of {town}
        {his} {role}
        {his} {temper} {role}""",
    "where": """{prep} the {place}
        {prep} the {adj} {place}
        {prep} the {place} at {town}
        {prep} the {role}'s {place}
        near the {nature} {prep} the {place}
        at {house}
        under the {nature}
        {number} miles from {town}""",
    "path": """down the {adj} {place}
        towards the {place}
        up the lane past the {adj} {place}
        away from the {place}
        into the {adj} {place} {prep} the {place}
        through the {nature} and the {nature}
        by way of {town}""",
    "when": """that {daypart}
        before {daypart}
        after {daypart}
        on {day}
        on the {ordinal} of {month}
        at {number} minutes to {hour}
        in the {ordinal} week of {month}
        for {number} {unit}
        {number} {unit} before
        {number} {unit} later
        all through the {season}
        towards the end of {season}
        since {day}""",
    "how": """{adv}
        {adv} and {adv}
        with {abstract}
        with {a_adj} {gesture}
        with more {abstract} than {abstract}
        without {abstract}
        in the hope of {abstract}
        not without {abstract}
        with {a_adj} {thing} in {his} hand""",
    "vp": """{vt} {np}
        {vt} {np} {where}
        {vt} {np} {how}
        {vt} {np} {when}
        {vi} {where}
        {vi} {where} {how}
        {vi} {how} {when}
        {vp_person} {who} {how}
        {vp_person} {who} {where}
        had {often} {vt} {np}
        could not {vt_inf} {np} without {abstract}
        meant to {vt_inf} {np} {when}
        was {temper} enough to {vt_inf} {np}
        was {vi_ing} {where}
        {often} {vi} {where}
        {vt} {np} and {vi} {where}
        spoke of {topic} {where}
        asked for {food} and {food}""",
    "vp_free": """{vp}
        {vp}
        {vi_fact} {path}
        {vi_fact} {path} {how}
        {vt_fact} {np} {where}
        {vt_fact} {np} {how}""",
    "clause": """{he} {vp_free}
        {role_np} {vp_free}
        {role_np} {vp_free}
        {A} {vp}
        {B} {vp}
        the {adj} {thing} {v_thing} {where}
        there was {a_adj} {thing} {where}
        {abstract} {v_feel} {him}
        {he} and {B} {vp}
        the {animal} {vi} {where}""",
    "sub": """when {clause}
        while {clause}
        because {clause}
        although {clause}
        as if {clause}
        until {clause}
        before {clause}
        after {clause}
        though {clause}
        since {clause}
        for {clause}""",
    "that": """that {clause}
        that {abstract} was {a_adj} {thing}
        how {temper} {who} had been {when}
        that {topic} would ruin the {temper} {role}
        that {who} had {vt} {np}""",
    "tell": """{he} {said}
        {A} {said}
        {said} {B}
        {said} the {temper} {role}
        {said} the {role} {adv}
        {he} {said} {how}
        {bhe} {said} {adv}""",
    "address": """my dear {role}
        sir
        madam
        {B}
        {A}
        my {temper} friend
        good {role}
        {someone}""",
    "speech": """the {role} has {often} {vt} {np}
        I have {vt} {np} {when}
        I cannot {vt_inf} {np} without {abstract}
        you must {vt_inf} {np} before {day}
        we shall {vt_inf} the {role}'s {thing} {when}
        there is more {abstract} in {a_adj} {thing} than in {number} {roles}
        no {role} could {vt_inf} {np}
        {abstract} never yet {vt} {a_adj} {thing}
        {town} is no place for {a_temper} {role}
        you speak of {topic} like {a_temper} {role}
        I would give {number} pounds for {a_adj} {thing} of {material}
        they say {who} {vp}
        it was {who} who {vt} {np}
        pray bring {food} and {food} for the {temper} {role}
        let us not talk of {topic} {when}""",
    "ask": """who {vt} {np} {where}
        what does {a_temper} {role} know of {topic}
        why should {who} {vt_inf} {np}
        where is {np}
        have you {vt} {np} {when}
        did the {role} {vt_inf} {np} {when}
        how can I {vt_inf} {np} {how}
        do you {often} {vt_inf} {np}""",
    # bAbI's people, rooms and things as books name them: disliked, looked at, spoken of, never walked to
    "babi": """{someone} had {often} liked the {room}, {sub}.
        {someone} looked out over the {room} {how}, {sub}.
        they spoke of {someone} in the {room} for {number} {unit}, {sub}.
        "{someone}," said {he}, "the {room} is {adj}, and {speech}."
        "the {room}, {someone}, wants {a_adj} {thing}," {tell}; "{speech}."
        the {room} at {house} was {adj} and {adj}, {sub}.
        from the {room} came the sound of {a_adj} {thing}, and {clause}.
        {he} thought of {someone} {when}, and of the {adj} {room} {where}.
        nobody but {someone} had {often} {vt} the {adj} {thing} in the {room}.
        there was no {toy} {where}, and {clause}.
        {A} {vt} the {toy} {how}, {sub}.
        "who ate the {toy}?" {tell}; but {someone} {vt} {np} and made no answer.
        a jug of milk stood on the {adj} {thing}, and {someone} {vi} {where}.
        an apple, {a_adj} {thing} and some {food} were all that {someone} had for {daypart}.
        the boys of {town} played football behind the {room} {when}, {sub}.
        the door of the {room} was {adj}, and beyond it {clause}.
        {someone} and {someone} were {vi_ing} {where} when {clause}.
        it was {someone} who {vt} {np} in the {adj} {room}.
        {someone}, who had {often} {vt} the {room}, {vp}.
        the {role} had written to {someone} about the {room} and {topic}, {sub}.
        {someone}'s {adj} {thing} was {often} in the {room}, where {clause}.
        "was that {toy} {adj}, {someone}?" {tell}, and {clause}.
        between the {room} and the {room} there was {a_adj} {place}, where {clause}.
        {A} could see the {adj} {room} from the {place}, and {someone} {vi_ing} in it.
        had {someone} {often} {vt} the {adj} {thing} in the {room}?""",
    "sentence": """{clause}.
        {A} {vt} {np}.
        "{^ask}?"
        "{^speech}!"
        {clause}, and {clause}.
        {clause}; {clause}.
        {clause}, but {clause}.
        {clause} {sub}.
        {^sub}, {clause}.
        {A} {vp}, {sub}.
        {A}, who had {often} {vt} {np}, {vp}.
        {A}, {vi_ing} {where}, {vp}.
        {A} {thought} {that}.
        {A} {thought} {that}, and {clause}.
        {he} {thought} {that}; {clause}.
        {when}, {clause}.
        {when} {clause}, {sub}.
        {where} {v_thing} {a_adj} {thing}, and {clause}.
        "{^speech}," {tell}.
        "{^speech}," {tell}; "{speech}."
        "{^speech}," {tell}, {how}; and {clause}.
        "{^address}," {tell}, "{speech}."
        "{^ask}?" {tell}.
        "{^ask}?" {tell}, {vi_ing} {where}.
        "{^speech}!" {tell}, and {clause}.
        "{^speech}. {^speech}."
        "{^ask}? {^speech}," {tell}.
        the {sky} {v_sky} over the {adj} {place}, and {clause}.
        the {sky} {v_sky} {prep} the {nature} {when}, {sub}.
        {a_adv} falling {sky} {v_sky} {where}, and the {nature} beyond {town} was {adj}.
        it was {a_adj} {daypart} in {month}, and {clause}.
        it was the {ordinal} of {month}, {number} {unit} after {that_event}.
        the {nature} and the {nature} {where} were {adj} with {sky}.
        the road from {town} {v_road} {path}, and {clause}.
        they {vi_fact} {path} {when}, and {clause}.
        the coach for {town} {vi_fact} {path} at {number} minutes past {hour}.
        {number} miles beyond {town} {clause}, {sub}.
        upon the {adj} {thing} were {a_adj} {thing}, {a_adj} {thing}, and {number} {adj} {things}.
        {he} {vt} {a_adj} {thing}, {a_adj} {thing} of {material}, and the {role}'s {thing}.
        they supped on {food}, {food} and {food} {where}, {sub}.
        the {house_part} at {house} was {adj} and {adj}, with {a_adj} {thing} {where}.
        {A} was {a_temper} {role} of {hour}-and-{tens}, with {a_adj} {body} and {a_adj} {body}.
        {A} was neither {temper} nor {temper}, yet {clause}.
        {role_np} was as {temper} as {a_temper} {role}, and {clause}.
        never had {A} {vt} so {adj} {a_thing}, {sub}.
        not even the {temper} {role} could {vt_inf} {np} {how}.
        what {A} {vt} was {a_adj} {thing}; what {he} wanted was {abstract}.
        if {he} had {vt} {np}, {who} would have {vt} {np}.
        had {A} {vt} {np} {when}, {who} would not have {vt} {np}.
        there are {number} kinds of {abstract}, and {who} had {vt} the {ordinal}.
        {^abstract}, like {a_adj} {thing}, is best {vt} {how}.
        {abstract} and {abstract} {v_feel} {him} by turns, {sub}.
        of {topic} {he} said nothing; of {topic} {he} spoke {how}.
        "dear {B}," wrote {A}, "{speech}, and {speech}."
        the {temper} {role}'s letter, dated the {ordinal} of {month}, began: "{^speech}; {speech}."
        "I am, {address}, with {abstract} and {abstract}, your {temper} {role}."
        who, thought {A}, had {vt} {np} {where}?
        was it {abstract}, or was it {abstract}, that made {him} {vt_inf} {np}?
        {C} and the {role} had quarrelled over {topic} {when}, and {clause}.
        {C} was {often} at {house} {when}, {sub}.
        of all the {roles} in {town}, {who} was the most {temper}, and {clause}.
        the {animal} and the {animal} {vi} {where}, {sub}.
        {a_temper} {animal} {vi} {where} {when}, and {clause}.
        the more {he} {vt} {np}, the less {who} {vp_person} {him}.
        some {vt} {np}, some {vi} {where}, and the {temper} {role} {vp}.
        "{^speech}," the {role} {often} said; and {clause}.
        so {temper} {a_role} had {often} been seen {where}, and {clause}.
        {he} {vt} {his} {adj} {body} {how}, {sub}.
        meanwhile {clause}, and {B} {vp}.
        at last {clause}; {abstract} {v_feel} {him}, and {clause}.
        such was the {abstract} of {who} that {clause}.""",
    "that_event": """{C} had {vt} {np}
        the {role} had {vt} {np}
        the {adj} {thing} was {vt} {where}""",
}
_CAST = ("A", "he", "his", "him", "B", "bhe", "bhis", "bhim", "C", "town", "house")
_BABI_SHARE = 0.06  # of sentences made from a "babi" shape; others name bAbI's people as members of the cast

_NAMES = "|".join(BABI_MEN + BABI_WOMEN)
_VERBS = "|".join(FACT_VERBS)
_FACT = re.compile(
    rf"\b(?:{_NAMES}) (?:and (?:{_NAMES}) )?(?:{_VERBS})\b"
    rf"|\b(?:{_VERBS})(?: \w+)?(?: to)? the (?:{'|'.join(BABI_PLACES + BABI_OBJECTS)})\b"
)


_VOWEL = re.compile("[aeiou]|honest", re.IGNORECASE)


def fact_like(sentence: str) -> bool:
    """True of any sentence that could be read as a bAbI fact, and of some that could not."""
    return _FACT.search(sentence) is not None


def document(seed: int, sentences: int) -> list[str]:
    """The first `sentences` sentences of `seed`."""
    return list(islice(_sentences(seed), sentences))


def sentences(seed: int) -> Iterator[str]:
    """Sentences of 5 to 40 words without end; a chapter's people and town last some 40 to 120 of them."""
    rng = random.Random(f"atlas-bench prose {VERSION} {seed}")
    draw = rng.random
    grammar = _grammar()
    shapes, babi = grammar["sentence"], grammar["babi"]
    cast: list[str] = []

    def expand(rule: tuple[Any, ...]) -> str:
        # the hot loop: an alternative is plain text, or (format, slots), a slot a rule or a place in the cast
        choice = rule[int(draw() * len(rule))]
        if choice.__class__ is str:
            return choice
        template, slots = choice
        return template % tuple([cast[s] if s.__class__ is int else expand(s) for s in slots])

    while True:
        people, town, house = _chapter(rng)
        for _ in range(10 + int(draw() * 20)):
            plain = [*_paragraph(rng, people), town, house]
            cast[:] = [*plain, *map(_capital, plain)]
            for _ in range(2 + int(draw() * 6)):
                while True:
                    sentence = _capital(expand(babi if draw() < _BABI_SHARE else shapes))
                    if 4 <= sentence.count(" ") < 40 and not _FACT.search(sentence):
                        break
                yield sentence


_sentences = sentences  # `document` has an argument of that name


def _capital(text: str) -> str:
    at = 1 if text[0] == '"' else 0
    return text[:at] + text[at].upper() + text[at + 1 :]


def _chapter(rng: random.Random) -> tuple[list[tuple[str, bool]], str, str]:
    """Four people (name, is a man), a town and a house; one in three chapters has somebody of bAbI."""
    pools = ((_names(_MEN), True), (_names(_WOMEN), False))
    people: list[tuple[str, bool]] = []
    while len(people) < 4:
        pool, man = pools[int(rng.random() * 2)]
        if not people and rng.random() < 0.33:
            pool = BABI_MEN if man else BABI_WOMEN
        person = (pool[int(rng.random() * len(pool))], man)
        if person not in people:
            people.append(person)
    towns = _names(_TOWNS)
    town, other = (towns[int(rng.random() * len(towns))] for _ in range(2))
    return people, town, f"{other} {('Hall', 'Park', 'Grange', 'Abbey', 'Lodge')[int(rng.random() * 5)]}"


def _paragraph(rng: random.Random, people: list[tuple[str, bool]]) -> list[str]:
    first = int(rng.random() * 4)
    second, third = (first + 1 + int(rng.random() * 2)) % 4, (first + 3) % 4
    (a, a_man), (b, b_man), (c, _) = people[first], people[second], people[third]
    he = ["he", "his", "him"] if a_man else ["she", "her", "her"]
    bhe = ["he", "his", "him"] if b_man else ["she", "her", "her"]
    return [a, *he, b, *bhe, c]


@cache
def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split("|"))


@cache
def _grammar() -> dict[str, tuple[Any, ...]]:
    """Rules with their slots resolved to other rules, so that making a sentence looks nothing up."""
    pools: dict[str, tuple[Any, ...]] = {}
    for name, text in _WORDS.items():
        words = [word.replace("_", " ") for word in text.split()]
        pools[name] = tuple(words)
        pools[f"{name}s"] = tuple(_plural(word) for word in words)
        pools[f"a_{name}"] = tuple(f"{'an' if _VOWEL.match(word) else 'a'} {word}" for word in words)

    @cache
    def rule(name: str) -> tuple[Any, ...]:
        if name.startswith("^"):
            return tuple(capital(choice) for choice in rule(name[1:]))
        return pools.get(name) or tuple(alternative(line) for line in _RULES[name].splitlines())

    def alternative(line: str) -> Any:
        names = re.findall(r"{(.*?)}", line)
        return re.sub(r"{.*?}", "%s", line.strip()), tuple(map(slot, names))

    def slot(name: str) -> Any:
        return _CAST.index(name) if name in _CAST else rule(name)

    def capital(choice: Any) -> Any:
        if isinstance(choice, str):
            return _capital(choice)
        template, (first, *rest) = choice[0], choice[1] or (None,)
        if not template.startswith("%s"):
            return _capital(template), choice[1]
        # a name or pronoun has its capital form later in the cast
        first = first + len(_CAST) if isinstance(first, int) else tuple(map(capital, first))
        return template, (first, *rest)

    return {name: rule(name) for name in ("sentence", "babi")}


def _plural(word: str) -> str:
    for end, ends in (("man", "men"), ("child", "children"), ("knife", "knives"), ("loaf", "loaves")):
        if word.endswith(end):
            return word.removesuffix(end) + ends
    if word.endswith("y") and word[-2] not in "aeiou":
        return f"{word[:-1]}ies"
    if word.endswith("ws"):  # bellows
        return word
    return f"{word}es" if word.endswith(("s", "x", "ch", "sh")) else f"{word}s"
