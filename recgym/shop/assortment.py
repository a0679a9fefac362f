"""What the generated shops sell: two assortments that have no word of a product's name in common.

Products are like "a hiking backpack, water resistant, with padded straps": a trait is an adjective
that suits all kinds of a department, a part is a noun that suits its kind.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A kind of thing, with what may be said of it."""

    noun: str
    shelf: str
    cheapest: int
    dearest: int
    groups: tuple[str, ...]  # of options that it may have
    purpose: str
    parts: tuple[str, ...]

    @property
    def is_plural(self) -> bool:
        """Mixing bowls are; a harness is not."""
        return self.noun.endswith("s") and not self.noun.endswith("ss")

    @classmethod
    def of(cls, line: str, parts: str) -> "Kind":
        """From two lines of a department, such as those below."""
        noun, shelf, prices, groups, purpose = (part.strip() for part in line.split("|"))
        cheapest, dearest = map(int, prices.split("-"))
        return cls(noun, shelf, cheapest, dearest, tuple(groups.split(", ")), purpose,
                   tuple(parts.strip().split(", ")))  # fmt: skip


@dataclass(frozen=True)
class Department:
    """Kinds of things, the traits that each of them may have, and who makes them."""

    category: str
    aisle: str  # the widest part of its path
    makers: tuple[str, ...]
    traits: dict[str, str]  # with a sentence on each
    kinds: tuple[Kind, ...]


@dataclass(frozen=True)
class Assortment:
    """All that a generated shop is made of."""

    departments: tuple[Department, ...]
    series: tuple[str, ...]  # second names of products
    options: dict[str, tuple[str, ...]]  # group -> values
    openings: tuple[str, ...]  # of what shoppers say
    closings: tuple[str, ...]  # of descriptions
    praises: tuple[str, ...]  # of parts
    extras: tuple[str, ...]  # bullet points that tell nothing


def _department(category: str, aisle: str, makers: str, traits: str, kinds: str) -> Department:
    """From lines of text, one for each trait and two for each kind."""
    told = (line.split(":") for line in traits.strip().splitlines())
    lines = kinds.strip().splitlines()
    return Department(
        category, aisle, tuple(makers.split()),
        {trait.strip(): sentence.strip() for trait, sentence in told},
        tuple(map(Kind.of, lines[::2], lines[1::2])),
    )  # fmt: skip


FIRST = Assortment(
    departments=(
        _department(
            "outdoors", "Sports & Outdoors", "Tarnfell Brightmoor Kestrelway Hollowpine Greyridge",
            """
            water resistant: rain runs off the coated fabric
            lightweight: you will hardly notice that you carry it
            wind proof: the tight weave keeps gusts out
            snag proof: ripstop threads end every snag where it began
            packable: it folds down to the size of a loaf
            insulated: a warm layer between two thin ones
            quick drying: wet in the evening and dry at breakfast
            fade resistant: a summer in the sun leaves no mark
            """,
            """
            hiking backpack | Packs | 38-125 | color, capacity | day trips and long weekends
                padded straps, hidden pocket, rain cover, chest buckle
            camping tent | Shelters | 75-290 | color, sleeps | family trips to the woods
                mesh windows, aluminum poles, double zipper, storm flaps
            sleeping bag | Shelters | 45-180 | color, fit | cool nights outside
                draft collar, compression sack, foot vent, pillow pouch
            rain poncho | Outerwear | 14-60 | color, size | festivals and wet walks
                snap buttons, roomy hood, taped seams, thumb loops
            travel hammock | Shelters | 22-85 | color, fit | lazy hours between two trees
                tree slings, steel carabiners, bug net, stuff sack
            picnic blanket | Packs | 18-65 | color, size | lunch in the park
                carry handle, sand pockets, ground stakes, felt backing
            bike pannier | Packs | 35-110 | color, capacity | the daily ride to work
                reflective trim, rail hooks, shoulder sling, roll closure
            """,
        ),
        _department(
            "kitchen", "Home & Kitchen", "Saltmere Copperlane Oakhearth Dillworth Pantrywell",
            """
            dishwasher safe: put it on either rack and forget about it
            stain resistant: tomato and turmeric wipe off
            bpa free: nothing in it that does not belong near food
            stackable: a whole set takes the room of one
            heat resistant: hot soup and boiling syrup do it no harm
            rust proof: years of steam and it still looks new
            easy clean: a rinse under the tap is enough
            shatter proof: it survives the drop from the counter
            """,
            """
            mixing bowls | Baking | 16-70 | color, pack | batter and salad
                pour spout, rubber base, snug lids, printed scale
            lunch box | Food Storage | 12-48 | color, capacity | school and office meals
                three compartments, cutlery tray, locking latches, sauce cup
            cutting board | Utensils | 15-75 | size, wood | bread and vegetables
                juice groove, grip corners, hanging hole, knife slot
            storage jars | Food Storage | 18-66 | capacity, pack | flour and coffee beans
                airtight seal, chalk labels, bamboo lids, wide mouth
            baking pan | Baking | 13-52 | size, color | cakes and casseroles
                raised rim, cooling rack, silicone grips, loose bottom
            water pitcher | Drinkware | 17-58 | color, capacity | cold drinks at the table
                fruit infuser, drip guard, fridge shape, stirring rod
            spice grinder | Utensils | 14-64 | color, wood | pepper and sea salt
                ceramic burr, coarseness dial, refill window, aroma cap
            """,
        ),
        _department(
            "electronics", "Electronics", "Voltarna Pixelform Zenwave Nordwatt Lumicore",
            """
            long lasting: a full day of use and some to spare
            plug and play: no driver and no account
            energy saving: it sleeps when you do
            shock proof: rubber edges take the fall
            compact: it fits in a coat
            wireless: no cable on the table
            rechargeable: the battery is good for a thousand cycles
            dust proof: sealed against crumbs and sand
            """,
            """
            bluetooth speaker | Audio | 24-140 | color, edition | music in every room
                stereo pairing, call microphone, belt loop, bass boost
            computer mouse | Accessories | 12-68 | color, edition | work and play
                silent buttons, side wheel, palm rest, dual sensor
            power bank | Accessories | 19-88 | color, charge | phones and tablets on the road
                status display, two ports, flashlight mode, braided cord
            over ear headphones | Audio | 35-220 | color, edition | flights and concentrated work
                memory foam, folding hinge, inline remote, travel pouch
            travel keyboard | Accessories | 25-95 | color, layout | writing on the go
                backlit keys, tablet stand, quiet switches, number row
            reading lamp | Lighting | 18-72 | color, edition | late books in bed
                bendable neck, warm light, timer function, touch dimmer
            alarm clock | Lighting | 15-60 | color, edition | heavy sleepers
                snooze button, sunrise effect, projection arm, nap timer
            """,
        ),
        _department(
            "fashion", "Clothing", "Marlowe Fernhill Ashgrove Weftline Cottonby",
            """
            machine washable: cold cycle and low tumble
            moisture wicking: sweat moves to the outside and is gone
            breathable: thousands of tiny openings let air through
            stretchy: it follows every movement and returns
            wrinkle free: straight from the suitcase to the table
            tagless: nothing scratches at the neck or waist
            ultra soft: brushed twice on the inside
            shrink resistant: the tenth wash fits like the first
            """,
            """
            polo shirt | Tops | 16-58 | color, size | casual fridays
                ribbed collar, three buttons, side slits, curved hem
            cargo pants | Bottoms | 28-84 | color, waist | hands full of tools and keys
                six pockets, elastic cuffs, hammer loop, knee panels
            zip hoodie | Tops | 25-79 | color, size | chilly mornings
                kangaroo pouch, lined hood, thumb holes, metal zipper
            ankle socks | Underwear | 9-32 | color, pack | sneakers and summer
                arch support, cushioned heel, seamless toe, mesh panel
            pajama set | Underwear | 22-70 | color, size | quiet sundays
                drawstring waist, notch collar, breast pocket, satin piping
            running shorts | Bottoms | 18-56 | color, size | track days and the gym
                inner brief, key pocket, split hem, flat drawcord
            winter gloves | Accessories | 13-55 | color, size | snow and cold handlebars
                touchscreen fingertips, fleece lining, wrist strap, leather palm
            """,
        ),
        _department(
            "beauty", "Beauty & Personal Care", "Rosalind Petalind Mossbloom Clearfield Amberlyn",
            """
            paraben free: made without the usual preservatives
            fragrance free: for noses that have had enough
            cruelty free: tested on our friends only
            sulfate free: it cleans and strips nothing
            dermatologist tested: checked on the most delicate skin
            vegan: nothing in it comes from an animal
            alcohol free: it neither stings nor dries
            fast absorbing: dressed again in a minute
            """,
            """
            face serum | Skin Care | 14-62 | volume, pack | tired mornings
                vitamin c, hyaluronic acid, green tea, rose hip
            body lotion | Skin Care | 9-38 | volume, scent | skin after the shower
                shea butter, aloe vera, oat extract, jojoba oil
            hair mask | Hair Care | 11-45 | volume, scent | curls and damaged ends
                argan oil, keratin protein, coconut milk, biotin complex
            lip balm | Skin Care | 5-22 | flavor, pack | cold and dry days
                bee wax, mango butter, peppermint oil, spf 15
            hand cream | Skin Care | 7-30 | scent, volume | gardeners and nurses
                glycerin core, calendula extract, almond oil, lanolin drops
            shaving gel | Shaving | 8-33 | scent, pack | close and calm shaves
                cooling menthol, chamomile extract, tea tree, witch hazel
            foot scrub | Skin Care | 10-36 | scent, volume | the first warm days
                pumice grains, dead sea minerals, eucalyptus leaf, sugar crystals
            """,
        ),
        _department(
            "living", "Furniture & Decor", "Lindenhus Wickerby Softvale Homestall Larkspur",
            """
            hypoallergenic: nothing for dust mites to live on
            anti slip: it stays where you put it
            space saving: flat when you do not need it
            eco friendly: from what others threw away
            hand woven: no two are quite alike
            odor resistant: fresh after a party
            pre washed: it does not change when you wash it
            double sided: turn it over and have another one
            """,
            """
            throw pillow | Bedding | 12-48 | color, dimensions | sofas and reading corners
                feather filling, corner tassels, concealed fastener, piped edge
            area rug | Floor | 35-240 | color, dimensions | hallways and living rooms
                jute backing, fringe ends, low pile, latex dots
            shower curtain | Bathroom | 14-46 | color, dimensions | tubs and walk in showers
                weighted hem, metal grommets, magnet corners, hook rings
            bed sheets | Bedding | 28-120 | color, bed | a good night
                deep corners, elastic hem, envelope cases, sateen finish
            table runner | Dining | 11-42 | color, dimensions | holidays and sunday lunch
                embroidered border, mitered corners, tassel ends, cotton lining
            bath towels | Bathroom | 16-68 | color, pack | guests and mondays
                hanging loop, dobby border, zero twist, long loops
            laundry hamper | Storage | 19-74 | color, capacity | the week's washing
                rope handles, removable liner, hinged cover, hidden wheels
            """,
        ),
    ),
    series=(
        "Alder", "Basin", "Cinder", "Delta", "Ember", "Fjord", "Garnet", "Haven", "Indigo",
        "Jasper", "Kodiak", "Lagoon", "Mesa", "Nimbus", "Onyx", "Prairie", "Quarry", "Rapid",
        "Sierra", "Timber", "Umber", "Vista", "Willow", "Yukon",
    ),
    options={
        "color": (
            "black", "white", "navy", "red", "olive", "pink", "purple", "orange", "yellow", "brown",
        ),
        "size": ("small", "medium", "large", "one size"),
        "capacity": ("5 l", "12 l", "20 l", "36 l", "60 l"),
        "sleeps": ("single", "couple", "family"),
        "fit": ("kids", "regular", "tall"),
        "pack": ("single", "2 pack", "4 pack", "6 pack", "10 pack"),
        "wood": ("acacia", "beech", "maple", "walnut"),
        "edition": ("basic", "plus", "studio", "limited"),
        "charge": ("5 ah", "12 ah", "27 ah"),
        "layout": ("qwerty", "azerty", "dvorak"),
        "waist": ("28", "31", "34", "36", "40"),
        "volume": ("30ml", "75ml", "150ml", "400ml"),
        "scent": ("lavender", "citrus", "sandalwood", "vanilla", "unscented"),
        "flavor": ("cherry", "honey", "mint", "plain"),
        "dimensions": ("12 x 18", "20 x 54", "36 x 72", "90 x 120"),
        "bed": ("twin", "queen", "king"),
    },
    openings=("I need", "Find me", "I am looking for", "I would like to buy", "Show me"),
    closings=(
        "We answer every question within a day.",
        "If it is not for you, send it back within a month.",
        "Designed by people who use it every week.",
        "A gift that is really used.",
    ),
    praises=(
        "small, and the reason why many come back",
        "you asked for it and here it is",
        "simple, sturdy and well thought out",
        "once you had it you will miss it everywhere else",
    ),
    extras=(
        "WHAT YOU GET: one parcel, one leaflet and our thanks",
        "OUR PROMISE: if anything is wrong we make it right",
        "GIFT IDEA: for birthdays, anniversaries and no reason at all",
    ),
)  # fmt: skip

SECOND = Assortment(
    departments=(
        _department(
            "pets", "Pet Supplies", "Barkington Whiskerly Pawsmith Tailgrove Featherbee",
            """
            vet approved: clinics recommend it to their own patients
            chew tough: made for those who destroy everything
            non toxic: safe to lick and to nibble
            scratch hardened: claws leave no trace
            noiseless: it moves and nobody wakes up
            resizable: it grows along for years
            glow marked: seen from a hundred steps in the dark
            odorless: noses find nothing of interest
            """,
            """
            dog harness | Walking | 15-62 | finish, girth | pullers and puppies
                neoprene vest, traffic lead, leash anchor, plush girdle
            cat tower | Furniture | 39-180 | finish, height | climbers and nappers
                sisal posts, dangling pompom, cozy cave, lookout deck
            fish feeder | Aquarium | 13-54 | finish, bundle | vacations
                portion drum, humidity barrier, clamp bracket, vacation program
            parrot perch | Birds | 9-36 | timber, length | claws and beaks
                manzanita branch, hemp coil, wing nut, swivel bell
            hamster carousel | Rodents | 8-33 | finish, girth | nightly marathons
                spokeless drum, suction plinth, cork floor, clear dome
            puppy crate | Walking | 34-150 | finish, height | house training
                divider wall, slide drawer, transport bolts, plastic feet
            rabbit hutch | Rodents | 65-290 | timber, height | yards and balconies
                ramp ladder, nesting loft, wire skirt, asphalt roof
            """,
        ),
        _department(
            "baby", "Nursery", "Cuddlewick Storkhouse Tinybean Lullington Cribsby",
            """
            pediatric grade: what hospitals use
            gently rounded: no edge that anyone could find
            phthalate negative: a laboratory looked and found none
            unbleached: as pale as the plant made it
            midwife recommended: they see hundreds of babies a year
            drool tolerant: wipe it and go on
            germ repelling: silver ions in the surface
            keepsake worthy: something to hand down
            """,
            """
            baby stroller | Getting Around | 89-390 | finish, bundle | cobbles and elevators
                sun canopy, parent console, swivel casters, bumper bar
            crib mobile | Sleep | 19-72 | theme, finish | falling asleep
                twelve lullabies, woolen clouds, clockwork motor, ceiling mount
            teething toy | Feeding | 6-24 | finish, bundle | sore gums
                chilled pulp, beaded strand, textured knobs, beechwood moon
            diaper caddy | Changing | 14-55 | finish, theme | changes at night
                wipe dispenser, stroller clamps, quilted divider, rattan frame
            toddler bib | Feeding | 7-29 | theme, bundle | noodles and porridge
                crumb catcher, nape poppers, elbow sleeves, terry front
            infant swaddle | Sleep | 12-47 | theme, months | the first hundred nights
                cosy wings, frog legs, velcro tabs, muslin layers
            activity centre | Getting Around | 29-118 | theme, finish | tummy time
                silver rattle, crinkle page, tummy bolster, rainbow bridge
            """,
        ),
        _department(
            "music", "Musical Instruments", "Sonorelle Fretworth Ostinato Bellacorde Drumlin",
            """
            studio level: recorded in rooms with better microphones
            tour ready: it has been dropped from vans
            lacquered: seven coats and a week of polish
            novice approved: forgiving of the first thousand mistakes
            concert grade: heard in the last row
            handmade: by one person from the first cut to the last
            humidity tolerant: from the tropics to heated halls
            factory adjusted: in key when it leaves the parcel
            """,
            """
            acoustic guitar | Strings | 95-690 | timber, bundle | campfires and kitchens
                spruce crown, bone saddle, inlaid rosette, nickel tuners
            snare drum | Percussion | 79-410 | finish, girth | backbeats
                die cast hoops, strainer lever, eight lugs, coated membrane
            violin bow | Strings | 32-260 | timber, length | etudes and encores
                horsehair ribbon, ebony frog, carbon shaft, silver wrapping
            digital piano | Keys | 249-1190 | finish, bundle | lessons with earplugs
                graded feel, sustain pedal, lesson songs, bench included
            clip tuner | Keys | 8-31 | finish, bundle | dark stages
                vibration pickup, needle meter, pivoting joint, capo combo
            cane flute | Winds | 16-88 | timber, pitch | long exhalations
                thread binding, cork joint, cloth sleeve, bevelled tip
            harmonica | Winds | 14-97 | finish, pitch | trains and porches
                brass reeds, pearwood comb, suede sheath, chrome shell
            """,
        ),
        _department(
            "tools", "Workshop", "Ironwick Hammerson Boltwright Steelmarch Gearhart",
            """
            heavy duty: it shrugs at what bends others
            corrosion defying: a month in salt fog
            precision milled: true to a hundredth
            shopfloor proven: three shifts a day for a year
            lifetime insured: if it ever breaks you get another one
            calibrated: checked against a standard before it leaves
            repairable: every worn bit can be swapped
            vibration damped: your elbow will say thanks
            """,
            """
            socket wrench | Hand Tools | 17-95 | drive, bundle | engines and bicycles
                ratchet teeth, extension stub, knurled shank, blow mould
            claw mallet | Hand Tools | 14-63 | weight, length | nails and demolition
                hickory shaft, nail starter, waffle surface, rip tooth
            jointed yardstick | Layout | 7-38 | length, finish | rooms and furniture
                nylon blade, fraction marks, pivot brake, tool clasp
            cordless drill | Machines | 59-310 | voltage, bundle | shelves and decks
                percussion gear, keyless chuck, torque clutch, work beam
            wood chisel | Joinery | 11-79 | width, bundle | dovetails and hinges
                bevel flanks, striking hoop, honing guide, ash haft
            bench vise | Joinery | 38-240 | width, finish | planing and filing
                turning plate, anvil horn, tube jaws, acme thread
            spirit level | Layout | 12-74 | length, finish | pictures and posts
                plumb vials, laser point, vee belly, outer bumpers
            """,
        ),
        _department(
            "toys", "Toys & Games", "Puzzlewood Merrybrick Dragonnest Kitehawk Jestory",
            """
            brush painted: by somebody with patience
            brain teasing: grown people gave up
            award winning: a jury of children voted
            screenless: no pixels at all
            splinterless: sanded five times
            phosphorescent: charge it under a bulb
            story rich: a booklet begins the tale
            toddler certified: no piece fits a small throat
            """,
            """
            jigsaw puzzle | Thinking | 9-46 | pieces, theme | rainy afternoons
                linen texture, sorting dishes, poster copy, matte coating
            strategy game | Thinking | 19-84 | players, theme | family evenings
                wooden meeples, hourglass included, solitaire rules, dice vault
            stunt kite | Outside | 16-90 | theme, wingspan | beaches
                fiberglass spars, quad bridle, spool winder, streamer kit
            building bricks | Making | 14-120 | pieces, theme | floors and bare feet
                idea deck, vaulted elements, gear axles, sturdy bucket
            plush dragon | Making | 12-58 | height, theme | brave sleepers
                squeaky belly, toothy grin, velvet spines, pebble feet
            marble maze | Making | 22-105 | pieces, bundle | physics by accident
                spiral segment, vortex funnel, starter gate, spring launcher
            card deck | Thinking | 6-27 | players, theme | trains and waiting rooms
                gilded margins, tuck sleeve, spill varnish, jumbo index
            """,
        ),
        _department(
            "garden", "Patio & Lawn", "Thornbury Mulchmore Greenspade Petalsworth Rainbarrow",
            """
            frost hardy: it winters where it is
            ergonomic: your wrist stays straight
            galvanized: zinc all around
            weatherized: rain and sun leave it as it is
            mildew repelling: fungus finds nothing to eat
            featherlight: a child carries it
            hail hardened: dented only by accident
            heirloom quality: something to leave to grandchildren
            """,
            """
            garden hose | Watering | 18-96 | length, finish | beds and cars
                pistol nozzle, kink spring, reel adapter, brass couplings
            pruning shears | Cutting | 12-68 | finish, bundle | roses and fruit trees
                bypass blades, sap channel, safety catch, canvas holster
            flower planter | Growing | 13-88 | finish, girth | balconies and stairs
                drain stopper, trellis sockets, saucer dish, caster dolly
            bird feeder | Visitors | 15-71 | finish, timber | robins at breakfast
                squirrel baffle, seed chute, view panes, suet cage
            lawn sprinkler | Watering | 11-59 | finish, bundle | thirsty grass
                gear rotor, spike leg, range clicks, debris screen
            weeding trowel | Cutting | 9-34 | finish, timber | dandelions
                root fork, depth ruler, tether lanyard, serrated flank
            patio lantern | Visitors | 16-82 | finish, height | evenings under trees
                flicker candle, shepherd crook, frosted panes, dusk trigger
            """,
        ),
    ),
    series=(
        "Aurora", "Borealis", "Comet", "Dynamo", "Equinox", "Falcon", "Galaxy", "Helios", "Icarus",
        "Jubilee", "Kismet", "Lyra", "Mercury", "Nova", "Orion", "Pegasus", "Quasar", "Raven",
        "Saturn", "Titan", "Ursa", "Vega", "Wizard", "Zephyr",
    ),
    options={
        "finish": (
            "ivory", "teal", "maroon", "mustard", "charcoal", "coral", "mint", "bronze", "cobalt",
            "peach",
        ),
        "girth": ("xs", "s", "m", "l", "xl"),
        "height": ("low", "middle", "high", "giant"),
        "bundle": ("solo", "duo", "trio", "club"),
        "timber": ("cedar", "birch", "rosewood", "mahogany"),
        "length": ("15 cm", "28 cm", "40 cm", "66 cm", "3 m", "7 m"),
        "theme": ("pirates", "forest", "space", "ocean", "circus", "savanna"),
        "months": ("newborn", "half year", "toddler"),
        "pitch": ("a", "c", "d", "g"),
        "drive": ("1 | 4", "3 | 8", "1 | 2"),
        "weight": ("8 oz", "14 oz", "22 oz"),
        "voltage": ("12v", "18v", "36v"),
        "width": ("6 mm", "19 mm", "25 mm", "40 mm"),
        "pieces": ("48", "200", "500", "1000"),
        "players": ("pair", "quartet", "party"),
        "wingspan": ("narrow", "classic", "monster"),
    },
    openings=("Please help me find", "I want", "We are after", "My friend asked for", "Get me"),
    closings=(
        "Spare parts are available for ten years.",
        "Assembled by a small team that signs each box.",
        "Questions are welcome at any hour.",
        "Half of our customers come back for a second one.",
    ),
    praises=(
        "we tried nine variants and kept the best",
        "what reviewers mention first",
        "our engineers insisted",
        "no extra charge for it",
    ),
    extras=(
        "IN THE BOX: everything that you see in the picture",
        "WARRANTY: three years without small print",
        "ABOUT US: four siblings and a loud machine",
    ),
)  # fmt: skip
