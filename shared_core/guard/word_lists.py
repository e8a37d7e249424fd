"""Long lists of everyday English words, as text: of one meaning, of opposite ones, of one class.

``vocabulary`` reads them.

A domain's own words are no business of this file.
"""

SYNONYMS = """
usa us america; remove delete erase eliminate discard rid wipe; close cancel terminate; end finish
conclude; begin start commence initiate; buy purchase; fix repair mend resolve solve troubleshoot;
change modify edit alter update amend; create make_up generate produce; build construct assemble;
obtain acquire receive; big large huge; small little tiny; fast quick rapid quickly; speed pace
velocity; show display; select choose pick; use utilize utilise employ; method approach technique;
explain describe; correct right accurate proper; error mistake bug issue problem trouble; reason
cause; cost price fee charge; money cash funds; happen occur; important essential crucial vital;
example instance sample; job occupation; picture photo photograph image; movie film; phone
telephone cellphone smartphone mobile; email mail e-mail; website webpage site; app application;
file document; folder directory; car automobile; house home; child kid; doctor physician; pain
ache; sick ill; medicine medication drug; tired exhausted fatigued; smart intelligent clever;
simple easy; difficult hard tough; improve enhance better; learn study; teach instruct; talk speak
chat; ask inquire enquire; answer reply respond response; search look seek; allow permit; forbid
prohibit ban; block freeze suspend; restart reboot; connect link; copy duplicate; move relocate;
join combine merge; split separate divide; gather collect; keep retain; shipping delivery; ship
deliver; return refund reimburse reimbursement; contact reach; vacation holiday; trip journey
travel; country nation; city town; company firm business corporation; employee worker; boss
manager; lawyer attorney; customer client; store shop; food meal; rubbish trash garbage; lift
elevator; transfer send; wait await; verify confirm validate; check inspect examine; enable
activate turn_on switch_on power_on; disable deactivate turn_off switch_off power_off shut_off;
login log_in sign_in signin; logout log_out sign_out signout log_off logoff sign_off; register
sign_up signup enroll
enrol; setup set_up configure; increase raise boost; decrease reduce lower lessen; maximum max;
minimum min; require necessitate; prevent avoid; treat cure heal; happy glad joyful; angry mad;
beautiful pretty; funny humorous; scared afraid; rich wealthy; cheap inexpensive affordable;
expensive costly; whole entire; total overall; difference distinction; benefit advantage;
disadvantage drawback downside; similar alike; see view; listen hear; guide tutorial; tip advice
suggestion; recommend suggest; idea notion; password passcode; location place; fill complete; stop
quit; replace substitute; prepare ready; often frequently; until till til; usually normally
typically; maybe perhaps; almost nearly; approximately roughly around; sofa couch; woman lady; man
guy gentleman; mother mom mum; father dad
"""
"""Groups of words that mean one thing whatever is asked; the first stands for all."""

ALIKE = """
bring give; call_off cancel; put_off postpone delay; work_out calculate; sort_out organise resolve;
sort_out arrange;
chop_down fell; chop_down cut; take_out buy get; come_up_with invent devise create think; look_into
investigate; look_up search find; look_for search; find_out learn discover; fill_in complete;
fill_out complete; hand_in submit; hand_over give; give_up quit stop; give_back return; send_back
return; take_back return; bring_back return; pay_back repay; pay_off repay settle clear; carry_out
perform do; carry_on continue; go_on continue happen; keep_on continue; set_up create install
arrange; set_off depart leave; turn_down reject decline refuse; turn_up arrive; show_up arrive
appear; break_down fail; throw_away discard; throw_out discard; cut_down reduce; cut_back reduce;
cut_off disconnect; go_up increase rise; go_down decrease fall; bring_up mention raise; pick_up
collect; drop_off deliver; try_out test; put_up_with tolerate; put_out extinguish; put_together
assemble; put_on wear; put_on apply; put_in install enter; take_off remove; take_apart dismantle;
take_in absorb; run_out expire finish; hold_on wait; hold_up delay; speed_up accelerate; pass_away
die; pass_out faint; throw_up vomit; come_back return; come_across find; come_down_with catch;
get_over recover; get_back recover return; get_out exit; get_through survive pass; point_out
mention; rule_out exclude; leave_out omit exclude skip; write_down record note; note_down record;
print_out print; type_in enter; key_in enter; blow_up inflate; blow_up explode; pump_up inflate;
heat_up warm; mix_up confuse; talk_over discuss; think_over consider; go_over review; look_over
review; look_after care; deal_with handle; cope_with handle; ask_for request; stay_away avoid;
keep_away avoid; let_go release; move_out leave; back_out withdraw; do_away_with abolish; own_up
confess; split_up separate; break_up separate end; make_up_for compensate; stand_for mean; stand_in
substitute; pull_out remove withdraw; pull_down demolish; knock_down demolish; tear_down demolish;
dig_up excavate; wipe_out destroy; give_out distribute; hand_out distribute; pass_on transmit;
pass_on forward; get_across communicate; bring_about cause; bring_on cause; lead_to cause; result_in
cause; consist_of contain; go_with match; ring_up call; call_up call; call_back return; look_through
browse; flick_through browse; go_for choose; opt_for choose; settle_on choose; pick_out choose;
set_aside reserve; put_aside save; put_away store; save_up save; do_up renovate; fix_up repair;
patch_up repair; clear_up clean; clear_out empty; use_up consume; go_off explode; go_off spoil;
problem condition complaint trouble; thoughts think opinion; consequence happen result effect
outcome; hire employee recruit; take_over succeed replace; get withdraw; get hail; get request; get
order; get apply; get claim; get book; get reserve; get win; get borrow; get rent; get hire; get
collect; get pick; get fetch; get catch; get find; get take; get download; get access; get open; get
set; get setup; get have; get contract; get adopt; get become; get achieve; get make; get create;
get print; get see; get receive; get buy; get use; get start; get come; get arrive; get go; get
travel; get reach; get qualify; get keep; get secure; get be; get feel; get turn; get develop; get
add; get learn; get know; get understand; find view see; find get; find check; use apply take work
run operate; day daily; week weekly; month monthly; year yearly annual; backup back_up; take time;
back return; bring_down lower; strip remove trim; boost strengthen increase improve enhance; check
measure test monitor; loop iterate; bad unhealthy harmful; transmit spread pass; strengthen
reinforce fortify; soothe relieve ease calm help; ache hurt pain sore; rash irritation; contagious
infectious catching; medication drug medicine pill tablet; physician doctor gp; surgery operation;
checkup examination exam check; tummy stomach belly; vomit puke; swollen swelling; overdraft
overdrawn; stolen nicked; lost missing misplaced; locate find track trace; replace reorder;
authorise approve allow authorize; verify confirm prove check; dispute challenge contest query;
settle pay clear; earn make get gain; join register enrol enroll subscribe sign_up; deactivate
disable close; install setup set_up add; uninstall remove delete; crash freeze hang; freeze hang
stick; handset phone device; mobile cell cellular; voicemail mailbox answerphone; router modem;
topup recharge credit; unlimited unrestricted; allowance limit quota; deliver bring send; courier
carrier; ferry boat ship; sightseeing tour; allowed permitted ok okay legal; forbidden banned
prohibited illegal; statute law; sue prosecute; lawyer solicitor attorney barrister; lease tenancy
rental contract; eviction removal; evict remove; will testament; fine penalty ticket; redundant
fired; complain object; complaint grievance; binding valid enforceable; legal lawful permitted;
penalty punishment sentence; chop cut dice slice; mince chop; whisk beat whip mix; blend mix puree;
keep store preserve last; spoil rot; tender soft; crispy crunchy crisp; dessert pudding; veg
vegetable; lesson class lecture; teacher instructor tutor professor; grade mark score; essay paper;
paper article; scholarship grant bursary; fail flunk; retake resit repeat; revise study review
learn; memorise memorize learn remember; cite quote reference; solve calculate compute work_out
find; define explain describe; classroom room; headteacher principal head; function method
procedure; print output display show log; log record; append add push; concatenate join combine
merge; reverse invert flip; iterate go traverse; length size count; check test see; error exception;
catch handle; throw raise; deploy publish release ship; rollback revert undo; clone copy download;
pull get; repository repo project; upload send add; compress zip; extract unzip unpack; kill stop
end terminate; import include; dependency package requirement; random arbitrary; convert change turn
transform cast; parse read; loop repeat; declare create define; initialise initialize create;
instantiate create; inherit extend; override replace; access get read reach; mechanic garage;
wallpaper decorate; leak drip; blocked clogged; bulb lamp light; boiler heater; recycle reuse; birth
delivery; breastfeed nurse feed; nursery kindergarten; babysitter nanny; neighbourhood area; far
distant; cheapest lowest; ideal best perfect; reliable trustworthy; harmful dangerous bad; serious
severe grave; mild light slight; typical normal common; necessary needed required essential;
entitled eligible; eligible qualified; qualify eligible; adequate enough sufficient; expire end run
lapse; pick collect fetch get; wait queue; greet welcome; pension retirement; mention say;
population people inhabitant; inhabitant resident; founder creator; invent create discover; directed
made; died passed; river stream; mountain peak; species kind; extinct dead; predator hunter; cause
trigger lead; happen occur take; differ different; similar like same; same equal identical; quickest
fastest; provider carrier operator; parcel package packet shipment; row record; pan skillet; plan
tariff package; internet broadband; activate enable; job role position; everyone everybody folk;
payment transaction; author write; contest dispute challenge; store leave keep; rich high; instead
place lieu; dict dictionary; int integer; config configuration; param parameter; repo repository;
env environment; char character; func function; doc document; dev developer; lab laboratory; exam
examination; ad advert advertisement; vet veterinarian; rep representative; uni university; intro
introduction; prep preparation; ref reference; temp temperature; admin administrator; option method;
process issue; requirement condition; purpose function use; stop block; read check; attach add;
pause suspend stop hold; valid available; unsubscribe stop cancel; able allowed permitted possible;
required mandatory compulsory obligatory necessary obliged; except exclude; kind type sort; use take
apply try; think believe feel guess suppose reckon notice; wrong incorrect false inaccurate
mistaken; correct right accurate true proper; picture pic photo image snapshot; fuel gas petrol
gasoline; determine work_out calculate compute figure find identify establish; visit trip travel
tour; try attempt; terrible bad awful horrible poor; wait take expect; request ask obtain get order
receive apply claim; reject decline refuse deny turn_down; put place set add insert; change new
replace switch swap exchange adjust modify convert transform edit; left remain remaining available;
funny joke hilarious amusing humorous; enable switch activate use set; difficulty error problem
trouble issue fault defect glitch bug failure; detail information info data fact particular; method
way means approach procedure process technique manner; way step; actual real physical genuine true;
actually really; age old; anywhere wherever everywhere; understand learn know grasp comprehend
figure; help assist aid support; wish want desire; unusual strange weird odd peculiar suspicious;
turn put set change make; trip vacation holiday journey abroad; treatment solution remedy therapy
cure; throw add put toss; teenager teen adolescent; tag label mark; symptom sign indication;
suitable appropriate fit right good; suck terrible awful; substitute replace sub; speaker volume
sound; simple easy straightforward; shoot throw roll; select decide choose pick; search find look
locate seek; see check view look inspect review; see watch view; secure protect safeguard; remove
take clear delete clean erase; register requirement; recognise recognize identify detect; recipient
receiver addressee; last recent latest; recall remember recollect; list show display enumerate
recall name; quick fast rapid speedy swift; quality standard; upload put add; puppy dog pup; kitten
cat; prevent stop avoid keep; pistol gun; pay spend; pay cost; pay payment; salary wage pay money
earning income; overcome control beat manage handle cope deal defeat; manage control handle
administer run operate; similar like other comparable alike; buy order purchase get acquire; novel
book; maximum highest top upper limit most; minimum lowest least; limit cap restriction limitation
maximum; limit amount; marry marriage wed; alive live; learn teach study; kill suicide; job work
position occupation career post; invent originate create; hack compromise breach; guideline policy
rule; greatest best impressive biggest; hear listen; grandma grandmother granny; grandpa
grandfather; girl woman lady; boy man guy; function work operate run; fulfil satisfy meet; food dish
meal; exit leave quit; expand increase extend grow; entail involve consist include mean; eat consume
have; fast quick soon early; disable switch stop deactivate; definitely verify; create set make open
start produce build establish found; carry handle; choice decision option alternative selection;
certain sure; blog website site; begin open start launch initiate; begin start commence; arrive come
reach get; arrive ship deliver; approve accept authorise authorize; amount number quantity sum;
affect influence impact; acceptable okay fine allowed; accept take support honour honor; close near
nearby; large big huge great major; small little tiny minor compact; important significant relevant
crucial essential key main vital major; main primary principal chief major; country nation state
land; city town place; area region zone district place location; place location spot site address;
street road; house home residence property; flat apartment; room space; shop store retailer outlet;
company firm business organisation organization corporation; staff employee personnel worker team;
boss manager supervisor; customer client buyer shopper; customer_service customer_support support
service helpdesk; service support help; agent representative rep advisor adviser operator; parcel
package packet shipment delivery; purchase order item product; product item good article; goods item
product merchandise; shipping delivery postage; shipment delivery order; ship send deliver dispatch
post mail; send submit transmit forward; fee charge cost price rate; price cost rate value; bill
invoice statement; bill charge; cash money; money fund funds; refund return reimbursement; discount
deal offer promotion reduction; coupon voucher promo code; subscription membership plan; plan
package; booking reservation appointment; book reserve schedule arrange make; appointment meeting
booking visit; meeting conference; cancel end close terminate stop abort; end finish conclude
complete terminate; account profile; password passcode; username login; email mail message; message
text sms note; call phone ring telephone contact; contact reach call; speak talk chat; notification
alert; ask inquire query; question query inquiry enquiry; answer reply response; document paper
file; form application; letter mail; manual guide handbook instruction; instruction direction
guidance; guide tutorial; report document; film movie; song track tune music; game match; internet
connection network wifi web; internet web net online; computer pc laptop machine; laptop notebook;
phone mobile cell cellphone smartphone handset; screen display monitor; program application software
app tool; button key; page site; link url; folder directory; update upgrade; install setup set_up;
set_up configure setup arrange; configure set; download get fetch; save store keep; store keep hold;
delete remove erase clear wipe; restore recover retrieve get; restart reboot; reset change restore
recover; run execute start launch; crash freeze fail break; broken damaged faulty defective; repair
fix mend restore; slow sluggish laggy; slow lag; connect hook hook_up link attach join pair; attach
fix fasten; detach unhook; join enter; shut close; shut_down turn_off switch_off power_off; turn_off
shut disable; turn_up increase raise; turn_down decrease reduce lower; increase raise boost improve
grow lift; decrease reduce lower cut lessen drop; improve enhance better increase boost; check
verify confirm see; verify confirm check validate; check test examine inspect; test exam
examination; result outcome; effect impact consequence result; cause make trigger; reason cause
purpose; purpose goal aim objective; aim goal target; benefit advantage perk; advantage pro benefit;
disadvantage drawback con downside; risk danger hazard; dangerous risky hazardous harmful unsafe;
safe secure; healthy good; illness disease sickness condition; ill sick unwell; medicine drug
medication; doctor physician; pain ache; hurt ache; injury wound; baby infant newborn; child kid;
adult grown; old elderly aged; elderly senior old; old ancient; young youthful; clothes clothing;
cook prepare make; bake make; recipe instruction; dish recipe meal; dinner supper; breakfast brekky;
drink beverage; garbage trash rubbish waste; toilet bathroom restroom lavatory loo; sofa couch;
carpet rug; lamp light; wash clean; dirt stain; smell odour odor scent; noise sound; loud noisy; car
automobile vehicle auto; bike bicycle cycle; motorbike motorcycle; lorry truck; train railway; plane
aeroplane airplane aircraft; flight plane; fly flight; flight trip; luggage baggage bag suitcase;
ticket pass; schedule timetable; route path way; beach seaside; sea ocean; forest wood; hill
mountain; stone rock; live reside stay; remain stay; lodge stay; own have possess; need require;
required needed necessary; allow permit let; permit allow licence; licence license permit; rule
regulation law; law regulation legislation; lawyer attorney solicitor; agreement contract deal; sign
signature; apply register enrol; application request; loan credit; borrow loan; mortgage loan; bank
lender; earn make; earn get; tax duty; retire retirement; hire employ recruit; fire dismiss sack;
quit leave resign; interview meeting; study learn research; study course; course class lesson;
school college; university college uni; degree qualification diploma; teacher instructor tutor;
student pupil; write compose; read study; language tongue; word term; meaning definition sense;
define mean; mean signify; explain describe clarify; difference distinction; differ vary; compare
contrast; example instance sample; idea clue concept notion; opinion view thought; thought idea;
topic subject; part piece section component; best top greatest good finest; good great nice; great
awesome excellent fantastic wonderful amazing brilliant; nice lovely pleasant; beautiful pretty
gorgeous lovely spectacular attractive; ugly unattractive; happy glad pleased; sad unhappy; angry
mad furious; afraid scared frightened; worry concern; worried concerned anxious; tired exhausted;
boring dull; interesting fascinating; famous well-known popular renowned; famous known; popular
famous common; common frequent typical usual popular; usual normal typical regular; rare uncommon
unusual; special particular; specific particular certain; exact precise; approximate rough; total
overall whole entire; whole entire complete full; complete finish full; empty blank; free
complimentary; cheap inexpensive affordable budget; expensive costly pricey; rich wealthy; strong
powerful; hard difficult tough; difficult hard challenging; clever smart intelligent; stupid dumb;
crazy mad; fat overweight; thin slim; height tall high; weight heavy weigh; width wide; depth deep;
distance far; speed fast; size big large; duration long time length; often frequently regularly;
always constantly; sometimes occasionally; rarely seldom; quickly fast; slowly slow; immediately
instantly right now; immediate instant; soon shortly; finally eventually; additional extra further
more another; other different another alternative; different other various; various several multiple
different; multiple several various many; person individual human people; someone somebody; friend
buddy mate pal; boyfriend partner; girlfriend partner; husband spouse; wife spouse; partner spouse;
mother mom mum mummy mommy; father dad daddy; parent folk; enemy foe; famous celebrity; star
celebrity; leader head chief; president head; author writer; creator maker inventor; manufacturer
producer maker; win victory; lose misplace; stolen robbed; steal rob; thief robber; happen occur;
happen come; take last; go travel; drive ride; walk stroll; run jog; jump leap; fall drop; rise
climb; climb scale; meet see; notice spot; spot see; show appear display give; provide offer give
supply specify; specify state indicate define provide mention; indicate show specify; contain
include hold have; include contain cover; consist contain; get become; become turn; obtain get gain
acquire; keep maintain retain; move transfer relocate shift; transfer move send; collect gather
pick; drop leave; leave depart go; departure leave; load open; load fetch retrieve get; open unlock;
lock secure; fill complete; grow plant; build construct; design create; destroy ruin; hit strike;
fight combat battle; war conflict; conflict fight; argue quarrel; agree consent; marriage wedding;
birthday birth; death die dead; die dice; funeral burial; god deity; religion faith; belief faith;
trust believe; lie untruth; fact truth; reality real; dream fantasy; hobby pastime; sport game; fun
enjoyable; enjoy like love; love like adore; hate dislike; favorite favourite best preferred; color
colour; center centre; neighbor neighbour; traveling travelling; theater theatre; meter metre; liter
litre; jewelry jewellery; gray grey; catalog catalogue; program programme; tire tyre; aluminum
aluminium; check cheque; realize realise; analyze analyse; pajamas pyjamas; cozy cosy; skeptical
sceptical; transport transportation transit; append add; abroad overseas; foreign overseas; domestic
local; local nearby; calculate estimate; estimate guess; predict forecast; forecast prediction;
weather climate; rain rainfall; snow snowfall; storm thunderstorm; wind breeze; hot warm; cold
chilly; cool cold; wet damp; damp moist; dry arid; clean neat tidy; mess clutter; solve resolve fix;
solution fix answer; tip advice hint; advice tip recommendation suggestion; recommend suggest
advise; suggestion recommendation idea; suggest propose; invite ask; visit see; guest visitor;
stranger unknown; unknown unfamiliar; secret hidden; hide conceal; find discover locate; invention
discovery; science scientific; experiment test; test try; practice exercise practise; exercise
workout training; train practice; training course; ability skill capability; talent gift; gift
present; party celebration; celebrate party; hairdresser barber; haircut trim; makeup cosmetic;
dentist dental; tooth dental; eyeglasses glasses spectacle; pants trousers; sneaker trainer shoe;
sweater jumper pullover; coat jacket; hat cap; purse handbag; wallet billfold; fridge refrigerator;
stove cooker oven; faucet tap; lawn grass; garden yard; backyard garden; fence barrier; roof
rooftop; wall partition; floor ground; ceiling roof; basement cellar; elevator lift; stairs
staircase; pavement sidewalk; highway motorway; subway underground metro tube; station stop; bus
coach; cab taxi; driver chauffeur; pedestrian walker; crash accident collision; police cop; crime
offence; criminal offender; prison jail; court tribunal; judge magistrate; insurance cover coverage
policy; deadline due; due payable; overdue late; late delayed; delay wait; postpone delay
reschedule; reschedule postpone change; interest rate; investment stock; stock share; currency
money; coin change; receipt invoice; proof evidence; certificate document; passport id; id
identification identity; signature autograph; stamp seal; envelope letter; newspaper paper; news
information; magazine journal; diary journal; library bookshop; story tale; poem verse; chapter
section; paragraph section; sentence phrase; grammar syntax; spelling spell; pronunciation
pronounce; accent pronunciation; translate translation convert; translation version; version edition
release; release launch; event occasion; festival event; concert gig show; seat place; row line;
line queue; crowd people; band group; group team; team squad; member participant; participant
attendee; audience crowd; fan supporter; opponent rival; rival competitor; contest competition; race
competition; prize award; medal award; score point; goal point; enable setup activate turn_on
configure; contact touch reach; turn convert change transform make; shot jab vaccination vaccine
injection; mute silence quiet; export download save extract; import upload load; report tell notify
inform flag; claim demand request; lodge file submit raise; submit send hand; fill enter type; type
enter write; enter input type put; scan read; read view; print copy; clear empty wipe clean; empty
clear drain; discard dump bin throw; recycle dispose; dispose discard rid; store stow keep; wrap
pack; unpack unwrap; pack bag; carry transport take bring; transport move carry ship; park leave;
rent hire lease; let rent; landlord owner; tenant renter; owner proprietor; hire rent employ; loan
lend; mend sew; sew stitch; cut trim chop slice; chop cut dice; peel skin; boil cook; fry cook;
roast bake; grill barbecue; reheat warm heat; cool chill; freeze chill; melt thaw; thaw defrost; mix
stir blend combine; add include; exclude omit; omit skip; skip miss; avoid prevent dodge; escape
flee; hide cover; cover protect; protect guard defend shield; damage harm hurt; kill destroy; kill
eliminate rid; rid remove; weed pest; bug insect pest; bunny rabbit; feed give; water irrigate; sow
plant; prune trim cut; mow cut; dig excavate; paint colour; decorate adorn; hang mount fix; mount
install fix; assemble put build; dismantle disassemble; open unseal; tie fasten; untie undo; button
fasten; zip close; wear put; dress clothes; undress strip; shave trim; comb brush; brush clean;
rinse wash; dry wipe; iron press; fold bend; stretch extend; shrink contract reduce; expand widen;
lengthen extend; shorten cut; prolong extend; renew extend update; expire lapse end; valid good;
void invalid; cancel void; refund repay; repay pay; owe due; debt loan; budget plan; save economise;
afford pay; spend use; waste squander; invest put; profit gain earning; loss deficit; tax levy;
penalty fine charge; punish penalise; reward prize bonus; bonus extra; award give; grant give;
donate give contribute; volunteer help; attend visit join; join register enrol; register enrol
subscribe; withdraw leave; withdraw take; deposit put pay; transfer wire; wire send; post publish;
publish release issue; announce declare; declare state; mention name; name call title; rename
change; nickname name; spell write; pronounce say; translate render; summarise summarize outline;
summary outline overview; outline sketch; draw sketch; photograph shoot; record tape; film shoot;
proofread check; correct fix; debug fix; compile build; deploy release; close exit; minimise
minimize; maximise maximize; optimise optimize; customise customize; personalise customize;
synchronise sync synchronize; unpair disconnect; disconnect unplug; plug connect; charge recharge;
refresh reload update; sign log; password code; pin code; code script program; function method;
variable parameter; parameter argument setting; array list; dictionary map; string text; remove
drop; merge combine join; split divide; sort order arrange; arrange organise; reverse invert; count
number; sum total add; average mean; solve work_out; prove show; measure gauge; weigh measure;
estimate predict; decide settle; plan schedule; organise organize plan; host hold; celebrate mark;
congratulate praise; thank appreciate; apologise apologize; forgive pardon; complain grumble; argue
debate; debate discuss; discuss talk; persuade convince; motivate encourage inspire; support back;
support encourage; oppose resist; allow enable; forbid ban; stop ban; block ban; restrict limit;
control check; monitor watch track; track follow trace monitor; watch observe; observe see; spot
find; discover learn; study examine; research investigate; investigate examine; explore discover;
remember memorise memorize; forget misplace; lose drop; steal take; cheat trick; trick fool; lie
cheat; heal recover; cure heal treat; relieve ease soothe; soothe calm; calm relax; relax rest; rest
sleep; sleep nap; wake rise; faint collapse; cough sneeze; vomit throw; itch tickle; swell bloat;
bleed blood; rash spot; bruise mark; fracture break; sprain twist; stiff sore; sore painful; dizzy
lightheaded; nauseous sick; pregnant expecting; infant toddler; deaf hearing; blind sight; gym
fitness; exercise train; diet nutrition; overweight obese; obese fat; strong tough; weak feeble;
tired sleepy; sleepy drowsy; bored boring; lonely alone; anxious worried nervous; stressed anxious;
upset sad angry; depressed sad; cheerful happy; excited thrilled; proud pleased; jealous envious;
shy timid; brave courageous; rude impolite; polite courteous; kind nice; honest sincere; lazy idle;
careful cautious; careless reckless; quiet silent calm; bright light; dark dim; clean pure; dirty
filthy; fresh new; stale old; rotten bad; bad spoiled; spoiled rotten off; delicious tasty yummy;
sweet sugary; salty salt; sour acid; bitter sour; spicy hot; plain simple; fancy elegant; modern
contemporary new; antique old; first initial original; final last; previous prior last former;
current present; annual yearly; monthly month; daily everyday; weekly week; hourly hour; permanent
lasting; temporary short; sudden quick; gradual slow; total complete; partial part; spare extra
replacement; replacement substitute spare; alternative substitute option; feature function;
characteristic feature trait; property feature; attribute property; element part; ingredient
component; component element; material stuff; stuff thing; item thing; device gadget tool; machine
device; engine motor; wheel tyre; brake stop; bulb lamp; torch flashlight; plug socket; socket
outlet; cable cord wire; battery cell; pipe tube; drain sink; sink basin; bath tub; shower bath;
towel cloth; cloth fabric; fabric material; pillow cushion; blanket cover; mattress bed; cupboard
cabinet closet; closet wardrobe; shelf rack; desk table; chair seat; couch settee; picture painting;
jewel gem; ring band; necklace chain; watch clock; glasses lens; bag sack; box container; bottle
flask; jar pot; pot pan; cup mug; knife blade; lid cover; lock bolt; key code; gate door; fence
wall; path track trail; bridge crossing; harbour harbor port; airport airfield; departure exit;
arrival landing; border frontier; ticket fare; fare price; seat spot; journey ride; ride trip;
cruise voyage; voyage journey; hike walk; accommodation lodging housing; suite room; waiter server;
chef cook; menu list; tip gratuity; restaurant diner; cafe coffee; cinema movie; stadium arena; pool
swimming; coast shore seaside; shore beach; island isle; desert dune; valley vale; peak summit top;
cliff rock; cave cavern; earthquake quake; flood flooding; fire blaze; smoke fume; dust dirt; mud
dirt; soil earth ground; sky air; planet world; sun sunshine; autumn fall; season time; century age;
era age; history past; birthplace birth born; occupation profession; profession job; career
profession; boss chief; secretary assistant; clerk employee; colleague coworker; intern trainee;
trainee apprentice; candidate applicant; resume cv; reference recommendation; vacancy opening; shift
turn; holiday leave; leave vacation; absence leave; strike walkout; union association; association
organisation; department section; branch office; office workplace; factory plant; warehouse depot;
supplier vendor; vendor seller; seller merchant; merchant trader; dealer seller; brand make; model
type; version model; quality grade; grade mark; rating score; review opinion; complaint problem;
guarantee warranty; deadline limit; term condition; clause section; copy duplicate; original master;
form sheet; sheet page; page leaf; graph chart diagram; diagram figure; map plan; symbol sign; logo
emblem; flag banner; slogan motto; quote quotation; joke pun; riddle puzzle; toy plaything; doll
toy; ball sphere; card pass; points credit; fund budget; grant funding; scholarship grant; tuition
fee; semester term; homework assignment; assignment task; task job; project task; duty task; exam
quiz; quiz test; mark score; subject course
"""
"""Groups of words that are often one thing where all else is the same: the app "shows" or "gives"
an error. A word may be in several."""

CLASSES = """
afghanistan albania algeria argentina armenia australia austria azerbaijan bahrain bangladesh
belarus belgium bolivia bosnia brazil bulgaria cambodia cameroon canada chile china colombia
croatia cuba cyprus czechia denmark ecuador egypt estonia ethiopia finland france georgia germany
ghana greece guatemala haiti honduras hungary iceland india indonesia iran iraq ireland israel
italy jamaica japan jordan kazakhstan kenya korea kuwait laos latvia lebanon libya lithuania
luxembourg madagascar malaysia malta mexico moldova mongolia morocco mozambique myanmar namibia
nepal netherlands nicaragua nigeria norway oman pakistan panama paraguay peru philippines poland
portugal qatar romania russia rwanda scotland senegal serbia singapore slovakia slovenia somalia
spain sudan sweden switzerland syria taiwan tanzania thailand tunisia turkey uganda uk ukraine
uruguay usa uzbekistan venezuela vietnam wales yemen zambia zimbabwe; amsterdam athens atlanta
austin baltimore bangalore bangkok barcelona beijing belfast berlin boston brussels budapest
burbank cairo calgary charlotte chennai chicago cincinnati cleveland columbus copenhagen dallas
delhi denver detroit dubai dublin edinburgh florence frankfurt geneva hamburg helsinki houston
hyderabad indianapolis istanbul jakarta johannesburg karachi kolkata kyiv lagos lima lisbon london
lyon madrid manchester manila melbourne memphis miami milan milwaukee minneapolis montreal moscow
mumbai munich nairobi naples nashville newark oakland orlando osaka oslo ottawa paris philadelphia
phoenix pittsburgh portland prague riyadh rome rotterdam seattle seoul shanghai stockholm sydney
tampa tokyo toronto vancouver venice vienna warsaw zurich; africa antarctica asia europe oceania;
alabama alaska arizona arkansas california colorado connecticut delaware florida hawaii idaho
illinois indiana iowa kansas kentucky louisiana maine maryland massachusetts michigan minnesota
mississippi missouri montana nebraska nevada ohio oklahoma oregon pennsylvania tennessee texas
utah vermont virginia wisconsin wyoming; english french german spanish italian portuguese dutch
russian chinese japanese korean arabic hindi bengali urdu turkish polish swedish norwegian danish
finnish greek hebrew latin; python javascript typescript java ruby php rust golang kotlin swift
scala perl haskell matlab fortran cobol; windows linux macos; android ios; chrome firefox safari
edge opera; mysql postgresql mongodb sqlite oracle redis cassandra mariadb; react angular vue
svelte; django flask fastapi rails laravel; pytorch tensorflow keras; aws azure gcp; github gitlab
bitbucket; excel powerpoint outlook; facebook instagram twitter linkedin whatsapp youtube tiktok
snapchat telegram reddit pinterest; visa mastercard amex paypal; uber lyft; pdf csv json xml yaml
html docx xlsx; png jpeg gif svg; ftp ssh smtp; red blue green yellow orange purple pink black
white brown grey; gold silver bronze platinum; iron copper zinc aluminium nickel; oxygen hydrogen
nitrogen carbon helium sodium potassium calcium magnesium; mercury venus earth mars jupiter saturn
uranus neptune pluto; north south east west; morning afternoon evening night; breakfast lunch
dinner; dog cat horse cow pig sheep goat chicken duck rabbit mouse lion tiger bear wolf fox
elephant monkey snake; apple banana orange grape mango peach pear strawberry lemon pineapple
cherry; rice pasta bread potato beef pork chicken fish egg cheese; coffee tea beer wine milk
juice; football cricket tennis basketball baseball hockey golf rugby volleyball; guitar piano
violin drums flute; car bus train plane bicycle motorcycle boat; arm leg hand foot head neck
shoulder knee elbow wrist ankle hip chest stomach; eye ear nose mouth tongue; heart liver kidney
lung brain bladder; aspirin ibuprofen paracetamol naproxen amoxicillin azithromycin penicillin
metformin; physics chemistry biology mathematics history geography economics philosophy
psychology; christianity islam hinduism buddhism judaism; circle triangle square rectangle; area
perimeter volume circumference diameter radius; capital area population currency flag president
language anthem climate gdp; password username pin; plus minus times divided; screen battery
keyboard camera speaker microphone; mother father brother sister uncle aunt son daughter husband
wife
"""
"""Classes of words of which one excludes the others; a word may be in several."""

QUALIFYING = """
adult child infant teenager senior junior pensioner; student teacher parent employee; free basic
standard premium deluxe business enterprise professional starter family; employed unemployed retired
freelance self_employed; full part; visitor resident citizen tourist commuter; tenant landlord
homeowner; car home health life travel pet motorcycle dental renters contents; single joint double
shared family; new refurbished; personal business corporate commercial private residential
recreational; public private; male female; men women; beginner intermediate advanced expert;
economy business first premium; online offline; domestic international; indoor outdoor; digital
paper printed; electric petrol diesel hybrid; hourly daily weekly monthly quarterly yearly annual;
weekday weekend workday weeknight midweek holiday; same next following; overnight same_day;
overnight daytime; morning noon afternoon evening night midnight dawn dusk; spring summer autumn
winter; christmas easter thanksgiving halloween; bank business; wired wireless; prepaid contract;
fixed variable; gross net; mobile desktop tablet; left right middle; primary secondary tertiary;
undergraduate graduate postgraduate doctoral; maternity paternity parental sick annual; vegan
vegetarian; raw cooked; fresh frozen canned dried; acoustic electric; term whole universal
"""
"""Classes of words that say which one is meant, of which one excludes the others."""

OPPOSITES = """
before/after buy/sell enable/disable increase/decrease open/close encrypt/decrypt encode/decode
maximum/minimum maximize/minimize maximise/minimise sender/receiver sender/recipient credit/debit
creditor/debtor deposit/withdraw deposit/withdrawal login/logout add/remove insert/remove first/last
install/uninstall begin/end begin/stop start/stop above/below over/under more/less most/least
more/fewer best/worst better/worse up/down male/female boy/girl man/woman mother/father husband/wife
son/daughter brother/sister his/her he/she him/her uncle/aunt king/queen left/right high/low
higher/lower highest/lowest long/short longer/shorter longest/shortest tall/short taller/shorter
tallest/shortest old/young older/younger oldest/youngest old/new oldest/newest big/small
bigger/smaller biggest/smallest larger/smaller largest/smallest wide/narrow deep/shallow thick/thin
heavy/light heavier/lighter cheap/expensive cheapest/expensive cheaper/expensive early/late
earlier/later earliest/latest fast/slow faster/slower fastest/slowest good/bad positive/negative
gain/lose win/lose profit/loss weight_gain/weight_loss send/receive transfer/receive lend/borrow
lock/unlock block/unblock hot/cold hotter/colder warm/cool heat/cool day/night morning/evening
true/false same/different similar/different advantage/disadvantage benefit/disadvantage pro/con
pros/cons accept/decline accept/reject approve/reject approve/deny allow/block allow/forbid
allow/deny grant/revoke hire/fire love/hate arrival/departure arrive/depart arriving/departing
push/pull read/write compress/decompress zip/unzip mount/unmount attach/detach connect/disconnect
link/unlink subscribe/unsubscribe follow/unfollow mute/unmute hide/show expand/collapse
ascending/descending horizontal/vertical row/column public/private local/remote online/offline
client/server frontend/backend employer/employee landlord/tenant teacher/student parent/child
plaintiff/defendant asset/liability supply/demand income/expense revenue/expense forward/backward
next/previous next/last top/bottom front/back north/south east/west northern/southern
eastern/western strengthen/weaken strong/weak stronger/weaker rise/fall ascend/descend freeze/melt
solid/liquid empty/full </> fill/empty odd/even multiply/divide plus/minus add/subtract
sum/difference singular/plural synonym/antonym dead/alive life/death friend/enemy remember/forget
build/destroy attack/defend wet/dry rich/poor single/married simple/difficult happy/sad
tighten/loosen wake/sleep zoom_in/zoom_out check_in/check_out opt_in/opt_out turn_up/turn_down
scale_up/scale_down checkin/checkout entrance/exit enter/exit ingress/egress enqueue/dequeue
acquire/release serialize/deserialize today/tomorrow today/yesterday yesterday/tomorrow
tonight/tomorrow on/off breakfast/dinner lunch/dinner breakfast/lunch monthly/yearly daily/weekly
weekly/monthly daily/monthly daily/yearly weekly/yearly annual/monthly undergraduate/graduate
checking/savings domestic/international manual/automatic acute/chronic benign/malignant
systolic/diastolic pre/post block/unfreeze sunrise/sunset promote/demote pause/resume
incoming/outgoing upper/lower temporary/permanent temporarily/permanently accept/refuse
mandatory/optional buyer/seller guilty/innocent inner/outer major/minor winner/loser undo/redo
except/include except/including get/redeem obtain/redeem buy/redeem order/redeem
initial/final original/final initially/finally first/final
"""
"""Pairs of opposites; each stands for all inflections and synonyms of its words."""

FOREIGN_WORDS = """
der das und ist nicht ich wir ihr sie mich dich mir dir mein meine meinen meiner meinem dein deine
ein eine einen einem einer wie wo wann warum wer welche welcher welches wieviel kann kannst konnen
muss soll auf vom zum zur bei nach aus auch oder aber wenn weil dass sind habe haben wird werden
mochte bitte gibt kein keine sich dem; unas como cual cuales donde cuando quien cuanto cuanta
cuantos porque para mis tus sus ella nosotros esta este esto estan estoy puedo puede pueden tengo
tiene hacer soy eres muy pero quiero necesito que una unos del al por; je il elle nous vous ils qui
quoi quel quelle quels quelles pourquoi quand combien avec est sont dans mes tes notre votre leur
cette ces aux des une suis avez peux peut puis faire dois faut cest jai quest quil comment; gli chi
cosa dove perche quanto quale quali sono siamo abbiamo posso puoi devo voglio mio mia miei tuo tua
suo della dello delle degli dei nel nella dal dalla sul sulla anche piu questo questa che; os uma
onde pelo pela qual quais meu minha meus minhas seu sua voce nao estou tenho tem preciso quero sao
fazer pode; het een van naar voor niet ik jij zij wij mijn jouw hoe waar wanneer waarom welke
hoeveel kan moet wil heb heeft zijn wordt worden deze ook maar uit; att det som jag vi mitt mina
hur nar varfor vad vem vilken vilket ska vill inte fran till jeg hvordan hvor hvornar hvorfor hvad
hvem hvilken skal ikke hva kjenner; mina sina missa milloin miksi kuka kuinka miten voin minun
sinun; jak gdzie kiedy dlaczego kto czy jest nie moge mozna moj moja moje dla przez lub jakie jaki
ktory; kde kdy proc kdo jaky jaka ktera muj nebo ale jsem jsou; hogyan hol mikor miert egy hogy nem
vagyok; unde cand cine sunt imi meu mea pentru sau daca; nasil nasıl nerede zaman neden kim
kac kaç bir ile icin için degil değil yok benim nedir; bagaimana dimana kapan mengapa siapa apa
adalah saya anda kamu yang dari untuk dengan tidak bisa itu ini; sao khi nao tai cai toi cua voi
khong duoc mot nhu; kya hai hain kaise kaha kahan kab kyon kyun kaun mera meri mujhe aur nahi
nahin; paano saan kailan bakit sino ang mga ako hindi; jinsi wapi lini kwa nini nani gani
"""
"""Small words of some twenty other languages in Latin letters."""

OFTEN_FOREIGN_WORDS = """
el la las los un en es de du le les et se si te tu mi da di na ne ya va il lo las ou sur mon mit
den dos sin con ha han hay ho per non von mas yo ser har min din var och ett av je ka ki ke ko ng
na im zu
"""
"""Small words of other languages that are names or abbreviations in English."""

ENGLISH_AND_FOREIGN = """
a an am as at do in no me so was die will on or us to i has he are over under is we be by go her
all one but for of hat war also man here more come dove if me it any par plus sale till no
"""
"""Small words of English that other languages have, too."""


# Small words: what each says.


TIMES = {
    "during": "during", "throughout": "during", "while": "during", "before": "before",
    "after": "after", "since": "since", "until": "until", "till": "until", "following": "after",
    "upon": "after",
}  # fmt: skip
PREPOSITIONS = TIMES | {
    "to": "to", "into": "to", "onto": "on", "from": "from", "for": "for", "about": "about",
    "regarding": "about", "concerning": "about", "by": "by", "with": "with", "using": "with",
    "via": "by", "without": "without", "against": "against", "in": "in", "inside": "in",
    "within": "within", "at": "in", "on": "on", "of": "of", "under": "under", "underneath": "under",
    "beneath": "under", "below": "under", "over": "over", "above": "over", "behind": "behind",
    "around": "around", "through": "through", "outside": "outside", "between": "between",
    "near": "near", "beside": "near", "out": "out", "beyond": "outside",
}  # fmt: skip
PHRASES = {
    ("prior", "to"): "before", ("ahead", "of"): "before", ("in", "front"): "front",
    ("out", "of"): "from", ("next", "to"): "near", ("close", "to"): "near",
    ("because", "of"): "", ("instead", "of"): "instead", ("rather", "than"): "instead",
    ("as", "of"): "", ("due", "to"): "", ("up", "to"): "", ("subsequent", "to"): "after",
}  # fmt: skip

QUANTIFIERS = {
    "all": "all", "every": "all", "each": "all", "everyone": "all", "everybody": "all",
    "everything": "all", "any": "any", "anyone": "any", "anybody": "any", "anything": "any",
    "either": "any", "some": "some", "several": "some", "someone": "some", "somebody": "some",
    "something": "some", "certain": "some", "most": "most", "few": "few", "little": "few",
    "many": "many", "both": "both", "hardly": "hardly", "barely": "hardly", "scarcely": "hardly",
    "rarely": "hardly", "seldom": "hardly", "nearly": "nearly", "almost": "nearly",
    "enough": "enough", "mostly": "most", "none": "none",
}  # fmt: skip

STATED = {
    "able": "can", "allowed": "can", "permitted": "can", "possible": "can", "forbidden": "not",
    "required": "must", "obliged": "must", "obligated": "must", "necessary": "must",
    "mandatory": "must", "compulsory": "must", "advisable": "should", "recommended": "should",
    "supposed": "should", "optional": "can", "okay": "can", "ok": "can", "alright": "can",
}  # fmt: skip
"""Words after "is it" and "am I" that say what a modal says."""

FIRST = {"i": "1", "me": "1", "we": "1", "us": "1", "myself": "1", "ourselves": "1"}
PERSONS = FIRST | {
    "you": "2", "yourself": "2", "he": "3", "him": "3", "she": "3", "they": "3", "them": "3",
}  # fmt: skip
OWNERS = {
    "my": "1", "our": "1", "mine": "1", "your": "2", "yours": "2", "his": "3", "her": "3",
    "their": "3", "hers": "3", "theirs": "3",
}  # fmt: skip

CLAUSE_MARKERS = {
    "unless": "unless", "until": "until", "till": "until", "while": "while",
    "provided": "if", "assuming": "if",
    "before": "before", "whenever": "if", "once": "once",
}  # fmt: skip

FOCUS = {
    "only": "only", "solely": "only", "exclusively": "only", "just": "just", "even": "even",
    "last": "last", "final": "last", "again": "again", "first": "nth", "second": "nth",
    "third": "nth", "fourth": "nth", "fifth": "nth", "next": "next",
}  # fmt: skip

NONE_AFTER = {
    "all": "at after of above you", "most": "the at what",
    "many": "how so that as", "few": "a the quite last next",
    "little": "a the my", "nearly": "not",
    "any": "if", "enough": "not",
}  # fmt: skip
NONE_BEFORE = {
    "all": "right",
    "any": "way more longer other idea help advice chance suggestion time",
    "some": "way more advice help tips good idea ideas other",
    "every": "day week month year time hour morning night other",
    "each": "other day week month year time",
    "most": "likely important common popular effective efficient expensive",
    "many": "thanks", "anything": "else",
    "something": "else", "certain": "that",
}  # fmt: skip
"""Words beside which these are no quantifiers: "at all", "the most", "any way", "every day"."""
