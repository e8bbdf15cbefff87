"""The 1024 words of invitation codes: ten bits each.

Four to seven letters; no two are one letter (or one swap) apart and none begins another, so that a slip of the ear or
the finger is noticed, not mistaken for another code. Part of the format: both sides must hold the same list.
"""

from __future__ import annotations

_TEXT = """
abacus academy acorn acrobat actor admiral agent airport album alcove algebra alley almanac almond aloe alpine amber
anagram anchor anchovy angle animal anthem antique antler apple apricot apron arbor arcade archer arctic argon
armada aroma arrow artist aspen asphalt athlete atlas atom attic auburn auditor august author autumn avenue aviary
avocado award axle azalea bacon badge bagel baker balcony ballad ballet balsam bamboo banana bandit banjo banner
barber bargain barley barrel basil basket bassoon bathtub battery bayou bazaar beard beaver bedroom beehive beetle
bellows belt bench beret bicycle biology birch biscuit bison bistro blanket blazer blender blossom blouse bobcat
bobsled bonfire bonnet bonsai border botany bottle boulder bouquet bowler boxer bramble brass bread breeze brick
bronze brooch broom brother brunch brush bubble bucket buckle buffalo bugle builder bulldog bumper burlap bushel
butcher butler button cabaret cabbage cabin cable caboose cactus calcium calypso camel camera canal canary candle
candy canoe canopy canvas canyon captain caramel caravan carbon cargo carpet carrot cartoon cascade cashew castle
catalog cavern caviar cedar celery cello center century ceramic cereal chalk chamber chapel chapter chariot checker
cheddar cheese chemist cherry chess chicken chimney chisel chorus chowder chrome cinder cinema circus citadel
citizen citrus classic clay clerk cliff climate clipper cloak cloud clover coaster cobalt cobbler cockpit cocoa
coconut coffee collar college cologne column comedy comet comic compass concert condor convoy cookie copper coral
corner cosmos costume cottage cotton council courier cousin cowboy coyote crab cradle crane crater crayon cream crew
cricket crimson crocus crouton crown cruiser crumpet crystal cube cuckoo curator curry curtain cushion custard
cutlery cycle cyclone cymbal cypress dahlia dairy dancer dawn debut decimal deck delta denim dentist deputy derby
desert diagram dial diamond diesel dimple dinner diploma disco discus divan doctor dolphin dome domino donkey donut
dough dragon drama drawer dresser drummer duchess dune duster dynamo eagle earring easel echo eclipse editor elbow
elder element eleven elixir embassy emblem emerald emperor empire enamel engine enigma epoch equator equinox eraser
escort estate ethics eureka fabric falcon family farmer father faucet fedora fence fern ferret ferry fiddle field
fiesta figure filter finch finger fisher fjord flag flame fleece flint flock floor flower flute foam focus foil
folder fondue forest fork forty fossil fresco friend fringe frost fruit fudge funnel gadget galaxy gallon gamma
garage garden garlic garnet gauge gavel gecko genius geyser giant gizmo glider globe goblet golfer goose gopher
gospel grain grape grocer grotto ground guava guest guide guitar gull hamlet hammer hangar harp hatch hawk hazel
heart hedge helmet herald heron hippo hobby hockey hollow holly honey hoodie hornet horse hotel huddle hummus hunter
husky hymn icicle icing igloo iguana impala inbox indigo ingot inlet insect iris island ivory jackal jacket jade
jaguar jazz jelly jersey jetty jewel jigsaw jingle joker judo juice jury kale karate kayak kazoo kelp kennel kettle
khaki kidney kilt kimono kindle kiosk kitten kiwi knight knot koala ladder lagoon lake lamp lantern laptop lasagna
laser lava ledger legend lemon lemur lens lentil lever lichen light lilac lily lime limpet linen lion liquid litmus
lizard llama locket lodge logic loom lotus lumber lunar lunch lupine lynx lyre lyric macaw magnet mango manor mantis
maple marble margin marina market marmot marsh mascot maze meadow medal melody melon member menu merlin meter mica
milk mimosa minnow mirror mocha model mohair month morsel mosaic mother motor motto mousse muffin mule mural muscle
museum music myrtle nachos napkin nature navy nebula nectar needle neon nephew nest nickel nimbus noble nomad noodle
north nougat nova novel nozzle nugget nurse nutmeg nylon oasis oboe ocean office olive omelet onion onyx opal opera
optic oracle orange orbit orchid organ oriole osprey otter outlet oven oxide oxygen oyster paddle pagoda palace
panda papaya paper parade parcel parka parlor pasta pastel pastry patio patrol peach peanut pearl pebble pecan
pencil pepper petal pewter phoenix photo piano piccolo pickle picnic pigeon piglet pilgrim pillow pilot pint pioneer
pirate pitcher pixel pizza planet plaster plateau plaza plum plywood podium poet polar polka pollen polo pomelo
poncho pony popcorn poppy porch postman potato pottery powder prairie prelude present pretzel prince prism profile
protein proton prune pudding pulley puma pumpkin puppet purple puzzle pyramid python quail quarry quartet quartz
quasar queen quill quinoa quiver quota rabbit raccoon radar radio radish radius raft ragtime railway rainbow raisin
ramen ranch ranger rapids ratchet rattan ravioli razor recipe record reef referee regatta relay relic reptile rescue
resort retina rhino rhubarb rhythm ribbon ridge ring ripple risotto river road robin rodeo roller romance rooster
rose route rowan rowboat royal rubber ruby rudder rumba runner russet safari saffron sailor salad salmon salsa samba
sandal sardine sash satchel saturn sauce sausage savanna sawmill scallop scarab scarf scepter school scooter scout
screen scroll seagull season sedan seesaw senator sepia sequoia serpent seven shadow shelf sherbet shield ship shore
shovel shrimp shuttle sienna signal silo silver siren sister skate sketch skipper skunk skyline sled sleigh slogan
sloop smoke snack snail snorkel snow soccer soda soldier sonata song soprano sorbet soup south soybean space spaniel
sparrow spatula speaker sphinx spider spinach spindle spinet spiral sponge spoon spring spruce squash squid stable
stadium stamp statue steam stereo stitch stone stork strudel student suburb subway sugar sulfur sultan summer sunset
supper surfer swallow swan sweater swift symbol syrup tabby tablet tadpole taffy talent tandem target tarmac tartan
taxi teacher teal teapot teddy temple tempo tenant tennis tent terrace terrier tetra textile theater thimble thistle
throne thunder thyme tiara ticket tiger timber tinsel tiptoe tissue toast tofu token tomato topaz tornado totem
toucan tourist towel tractor traffic trail treetop trellis tribune tripod trolley trophy trout truck truffle tugboat
tulip tuna tundra turban turbine turnip turtle tuxedo tweed twelve twig twine ukulele unicorn uniform urchin utensil
vacuum valet valve vanilla vapor vase vault velvet vendor veranda verse vessel veteran viaduct vicar victory video
village vinegar viola violet violin viper visitor vitamin volcano volley volume vortex voyage vulture wafer waffle
wagon waist walnut walrus waltz warbler washer wave wedding weekend whale wharf wheat whisker wicker widget wigwam
window winter wisdom wolf wombat wonder wool wreath wren writer xenon yacht yard yeast yellow yogurt zebra zenith
zigzag zinc zinnia zipper zither zodiac
"""

WORDS: tuple[str, ...] = tuple(_TEXT.split())
