"""What the guard must tell apart, and what it must let pass."""

from __future__ import annotations

import time
import timeit
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.near_misses import read_pairs
from shared_core.guard import KINDS, Guard

GUARD = Guard()

DIFFER = [
    # numbers in any spelling
    ("number", "How many calories are in 2 eggs?", "How many calories are in 3 eggs?"),
    ("number", "Name five rivers", "Name 6 rivers"),
    ("number", "Top twenty-one songs", "Top 22 songs"),
    ("number", "Explain the third amendment", "Explain the 5th amendment"),
    ("number", "Explain the first amendment", "Explain the second amendment"),
    ("number", "What is chapter one about?", "What is chapter two about?"),
    ("number", "Is a salary of 50k good?", "Is a salary of 60,000 good?"),
    ("number", "Is 1.5 million enough?", "Is 1.6 million enough?"),
    ("number", "Is -5 even?", "Is 5 even?"),
    ("number", "What happens at 5:30?", "What happens at 6:30?"),
    ("number", "How do I lose weight?", "How do I lose 10 more weight points?"),
    ("number", "Subtract 5 from 10", "Subtract 10 from 5"),
    ("number", "What is 20 divided by 4?", "What is 4 divided by 20?"),
    ("number", "ما هو ٥٠؟", "ما هو ٦٠؟"),
    ("number", "5個の例", "6個の例"),
    ("number", "What is 5-3?", "What is 3-5?"),
    ("number", "The score was 3-1", "The score was 1-3"),
    ("number", "A ratio of 3:1", "A ratio of 1:3"),
    ("number", "What is 2^8?", "What is 8^2?"),
    ("number", "What is 2**8?", "What is 8**2?"),
    ("number", "What is five minus three?", "What is three minus five?"),
    ("number", "The point (3, 4)", "The point (4, 3)"),
    ("number", "Can I get half the deposit back?", "Can I get a quarter of the deposit back?"),
    ("number", "Is half the rent due?", "Is the rent due?"),
    ("number", "May I take a double dose?", "May I take a triple dose?"),
    ("number", "A single room", "A double room"),
    ("number", "Does it close at noon?", "Does it close at midnight?"),
    ("opposite", "What is 7 + 3?", "What is 7 - 3?"),
    ("opposite", "What is 7+3?", "What is 7-3?"),
    ("opposite", "What does x < 5 mean?", "What does x > 5 mean?"),
    # units and currencies
    ("unit", "What is 5 kg in stones?", "What is 5 lb in stones?"),
    ("unit", "How far is the moon in km?", "How far is the moon in miles?"),
    ("unit", "Gifts under $50", "Gifts under €50"),
    ("unit", "Gifts under 50 USD", "Gifts under 50 euros"),
    ("unit", "Is a tip of 20% fine?", "Is a tip of 20 dollars fine?"),
    ("unit", "Wake me at 6 am", "Wake me at 6 pm"),
    ("unit", "Convert 5 kg to pounds", "Convert 5 pounds to kg"),
    ("unit", "Can I return it within 3 days?", "Can I return it within 3 weeks?"),
    ("unit", "Is a line of 10 megabits enough?", "Is a line of 10 megabytes enough?"),
    # dates
    ("date", "Who won the cup in 2022?", "Who won the cup in 2018?"),
    ("date", "Events of March 2001", "Events of June 2001"),
    ("date", "Is the shop open on Monday?", "Is the shop open on tuesday?"),
    ("date", "Music of the 1980s", "Music of the 90s"),
    ("date", "Music of the nineties", "Music of the eighties"),
    ("date", "What happened on 2024-01-15?", "What happened on 2024-02-15?"),
    ("number", "What happened on January 15, 2024?", "What happened on 16 Jan 2024?"),
    # versions
    ("version", "What is new in Python 3.11?", "What is new in Python 3.12?"),
    ("version", "How do I install v2.0.1?", "How do I install v2.0.2?"),
    ("version", "Changes in version 3.1", "Changes in version 3.10"),
    ("version", "Does it run on node 18?", "Does it run on node 20?"),
    # negation
    ("negation", "Can I eat it?", "Can't I eat it?"),
    ("negation", "Why is it working?", "Why is it not working?"),
    ("negation", "Foods with sugar", "Foods without sugar"),
    ("negation", "Should you ever mix them?", "Should you never mix them?"),
    ("negation", "Is this berry safe?", "Is this berry unsafe?"),
    ("negation", "Is it legal to park here?", "Is it illegal to park here?"),
    ("negation", "A refundable ticket", "A non-refundable ticket"),
    ("negation", "Which animals do lay eggs?", "Which animals dont lay eggs?"),
    ("negation", "People who know how to swim", "People who do not know how to swim"),
    ("negation", "Sugar-free gum", "Sugar gum"),
    ("negation", "A gluten free cake", "A cake with gluten"),
    ("negation", "A seedless grape", "The seeds of a grape"),
    ("negation", "Vegetarian", "Non-vegetarian"),
    ("negation", "No carbohydrate diets", "Carbohydrate diets"),
    ("negation", "Is it open except Sunday?", "Is it open on Sunday?"),
    ("negation", "Mail all users except admins", "Mail all users including admins"),
    ("negation", "Users who lack a licence", "Users who have a licence"),
    ("negation", "Should I refrain from exercise?", "Should I exercise?"),
    ("negation", "How do I freeze my card?", "How do I unfreeze my card?"),
    ("negation", "Archive a chat", "Unarchive a chat"),
    ("negation", "What if I ate it and do not feel ill?", "What if I did not eat it and feel ill?"),
    # quotes and code
    ("quote", 'How do I say "good morning" in Thai?', 'How do I say "good night" in Thai?'),
    ("quote", "What does 'awful' mean?", "What does 'awesome' mean?"),
    ("quote", "What does “a priori” mean?", "What does “a posteriori” mean?"),
    ("quote", "Explain `x += 1`", "Explain `x -= 1`"),
    ("quote", "意味は「犬」？", "意味は「猫」？"),
    # identifiers
    ("identifier", "Summarise https://example.com/a", "Summarise https://example.com/b"),
    ("identifier", "Who is ann@example.com?", "Who is bob@example.com?"),
    ("identifier", "What is /etc/hosts for?", "What is /etc/passwd for?"),
    ("identifier", "What is main.py for?", "What is setup.py for?"),
    ("identifier", "What does read_csv do?", "What does to_csv do?"),
    ("identifier", "What is getName for?", "What is setName for?"),
    ("identifier", "How do I fix error E1045?", "How do I fix error E1046?"),
    ("identifier", "Cost of a Galaxy S22 screen", "Cost of a Galaxy S23 screen"),
    ("number", "Screen size of the iPhone 15", "Screen size of the iPhone 14"),
    ("identifier", "How do I learn C++?", "How do I learn C#?"),
    ("identifier", "How do I learn C++?", "How do I learn C?"),
    ("identifier", "Who may get blood of group AB+?", "Who may get blood of group AB-?"),
    ("identifier", "Decode " + 40 * "a", "Decode " + 39 * "a" + "b"),
    # names
    ("name", "What does appendix a say?", "What does appendix b say?"),
    ("name", "What is x?", "What is y?"),
    ("name", "what is vitamin c for", "what is vitamin d for"),
    ("name", "What is the weather in Paris?", "What is the weather in London?"),
    ("name", "Who is Marie Curie?", "Who is Pierre Curie?"),
    ("name", "What does NASA do?", "What does ESA do?"),
    ("name", "How do I learn Go?", "How do I learn Rust?"),
    ("name", "What is the weather in Paris?", "what is the weather in bordeaux?"),
    # words that exclude each other, in lower case too
    ("content", "weather in paris", "weather in london"),
    ("content", "capital of france", "capital of spain"),
    ("name", "Capital Of France", "Capital Of Spain"),
    ("content", "reset my password", "reset my pin"),
    ("content", "reverse a list in python", "reverse a list in java"),
    ("name", "What is the currency of India?", "What is the currency of Nepal?"),
    ("content", "What is the currency of India?", "What is the population of India?"),
    # opposites
    ("opposite", "What should I do before surgery?", "What should I do after surgery?"),
    ("opposite", "Where can I buy bitcoin?", "Where can I sell bitcoin?"),
    ("opposite", "How do I enable cookies?", "How do I disable cookies?"),
    ("opposite", "Ways to increase blood pressure", "Ways of decreasing blood pressure"),
    ("opposite", "opening an account", "closing an account"),
    ("opposite", "How do I import contacts?", "How do I export contacts?"),
    ("opposite", "How do I upload a file?", "How do I download a file?"),
    ("opposite", "encrypting a disk", "decrypt a disk"),
    ("opposite", "minimum age to vote", "maximum age to vote"),
    ("opposite", "Who is the sender?", "Who is the receiver?"),
    ("opposite", "my credit card", "my debit card"),
    ("opposite", "How do I deposit cash?", "How do I withdraw cash?"),
    ("opposite", "How do I log in?", "How do I log out?"),
    ("opposite", "How do I turn off notifications?", "How do I turn notifications on?"),
    ("opposite", "add a user", "remove a user"),
    ("opposite", "the first president", "the last president"),
    ("opposite", "Who bought the firm?", "Who sold the firm?"),
    ("opposite", "Install the driver", "Uninstall the driver"),
    ("opposite", "the tallest building", "the shortest building"),
    ("opposite", "the most expensive car", "the least expensive car"),
    ("opposite", "Should I inhale now?", "Should I exhale now?"),
    ("opposite", "When is sunrise?", "When is sunset?"),
    ("opposite", "How do I promote an admin?", "How do I demote an admin?"),
    ("opposite", "Pause the upload", "Resume the upload"),
    ("opposite", "the upper limit", "the lower limit"),
    ("opposite", "a temporary ban", "a permanent ban"),
    ("opposite", "May I accept an offer?", "May I refuse an offer?"),
    ("opposite", "Is it mandatory?", "Is it optional?"),
    ("opposite", "fees of the buyer", "fees of the seller"),
    ("opposite", "What if I am found guilty?", "What if I am found innocent?"),
    ("opposite", "signs of hypokalemia", "signs of hyperkalemia"),
    ("opposite", "signs of hypoxia", "signs of hyperoxia"),
    ("opposite", "a prepaid plan", "a postpaid plan"),
    ("opposite", "Is this plant harmful?", "Is this plant harmless?"),
    ("opposite", "the inner ring", "the outer ring"),
    # direction
    ("direction", "Copy S3 to disk", "Copy disk to S3"),
    ("direction", "Redirect a.com to b.com", "Redirect b.com to a.com"),
    ("direction", "Train Leeds York", "Train York Leeds"),
    ("direction", "the rate USD EUR", "the rate EUR USD"),
    ("direction", "train london manchester", "train manchester london"),
    ("direction", "An English-French dictionary", "A French-English dictionary"),
    ("direction", "Flights from Rome to Oslo", "Flights from Oslo to Rome"),
    ("direction", "rome to oslo flights", "oslo to rome flights"),
    ("direction", "trains from new york to boston", "trains to new york from boston"),
    ("direction", "convert celsius to fahrenheit", "convert fahrenheit to celsius"),
    ("direction", "Translate from German to Dutch", "Translate from Dutch to German"),
    ("direction", "Is Mars bigger than Venus?", "Is Venus bigger than Mars?"),
    ("direction", "Do cats eat dogs?", "Do dogs eat cats?"),
    ("direction", "Can I move from Slack to Teams?", "Can I move from Teams to Slack?"),
    ("direction", "transfer money to savings", "transfer money from savings"),
    ("direction", "How to send money to savings", "How to send money from savings"),
    ("direction", "I want to fly from Oslo to Rome", "I want to fly from Rome to Oslo"),
    ("direction", "How many ounces are in a pound?", "How many pounds are in an ounce?"),
    ("direction", "Replace tea with coffee", "Replace coffee with tea"),
    # signs and emoji
    ("symbol", "Solve x ≤ 3", "Solve x ≥ 3"),
    ("symbol", "Solve x = 3", "Solve x ≠ 3"),
    ("symbol", "Solve x < 3", "Solve x = 3"),
    ("symbol", "What does ♂ mean?", "What does ♀ mean?"),
    ("symbol", "Is this ✓?", "Is this ✗?"),
    ("symbol", "What does 😀 mean?", "What does 😂 mean?"),
    ("symbol", "What does 👍 mean?", "What does it mean?"),
    ("symbol", "Is ★★★ good?", "Is ★★★★★ good?"),
    # the small words
    ("tense", "Who is the mayor of Utrecht?", "Who was the mayor of Utrecht?"),
    ("tense", "Who runs the farm shop?", "Who ran the farm shop?"),
    ("tense", "Did the ferry carry cars?", "Will the ferry carry cars?"),
    ("quantifier", "Are all of the lifts working?", "Are some of the lifts working?"),
    ("quantifier", "Why do few bees survive?", "Why do a few bees survive?"),
    ("quantifier", "Is it nearly finished?", "Is it hardly finished?"),
    ("modal", "Must the tenant pay?", "May the tenant pay?"),
    ("modal", "Is it possible to appeal?", "Is it necessary to appeal?"),
    ("conditional", "Is it free if I join?", "Is it free unless I join?"),
    ("conditional", "Do I pay if it breaks?", "Do I pay only if it breaks?"),
    ("conditional", "Does it run until I stop?", "Does it run if I stop?"),
    ("role", "Can I write to you?", "Can you write to me?"),
    ("role", "Can I ride for free?", "Can my daughter ride for free?"),
    ("role", "What is my address?", "What is your address?"),
    ("focus", "Does it open on Sundays?", "Does it open only on Sundays?"),
    ("focus", "Who came second to last?", "Who came last?"),
    ("focus", "When is the second lesson?", "When is the final lesson?"),
    ("preposition", "Who writes to the mayor?", "Who writes for the mayor?"),
    ("modal", "Will the storm delay my train?", "Can the storm delay my train?"),
    ("focus", "Can even novices try it?", "Can novices try it?"),
    ("preposition", "Can I talk during the show?", "Can I talk before the show?"),
    ("preposition", "A letter from my aunt", "A letter for my aunt"),
    ("preposition", "Is it behind the barn?", "Is it in front of the barn?"),
    ("preposition", "May I sell within a year?", "May I sell after a year?"),
    ("preposition", "Is the ferry full until 7?", "Is the ferry full from 7?"),
    ("preposition", "Must I reply by Monday?", "Must I reply after Monday?"),
    ("preposition", "ferries norway", "What do ferries outside Norway cost?"),
    ("preposition", "How do I send a coat back to you?", "How do I send a coat from you?"),
    ("exchange", "How do I restart the pump?", "How do I reset the pump?"),
    ("preposition", "Can I leave my bike at the gate?", "Can I leave my bike beyond the gate?"),
    ("preposition", "What is on the lid?", "What is under the lid?"),
    ("quantifier", "Do I water every bed?", "Do I water one bed?"),
    ("quantifier", "May both twins enter?", "May either twin enter?"),
    ("tense", "Is my kayak booked?", "Was my kayak booked?"),
    ("tense", "Have I renewed the lease?", "Will I renew the lease?"),
    ("modal", "Need I warn the neighbours?", "May I warn the neighbours?"),
    ("role", "Can my doctor see my notes?", "Can I see my doctor's notes?"),
    ("direction", "Does the club pay the trainers?", "Do the trainers pay the club?"),
    ("opposite", "When is the next ferry?", "When was the last ferry?"),
    ("role", "Can my porter carry my trunk?", "Can I carry my porter's trunk?"),
    ("quantifier", "Can I bring several dogs?", "Can I bring a dog?"),
    ("quantifier", "Will any of my seeds grow?", "Will one of my seeds grow?"),
    ("quantifier", "Does one partner have to sign?", "Do both partners have to sign?"),
    ("quantifier", "Which finches sing?", "Do all finches sing?"),
    ("tense", "Has my kayak been repaired?", "Will my kayak be repaired?"),
    ("tense", "Who is painting the barn?", "Who painted the barn?"),
    ("tense", "Why are you sending me leaflets?", "Why will you be sending me leaflets?"),
    ("modal", "How often can I feed a carp?", "How often must I feed a carp?"),
    ("modal", "Where can I moor?", "Where must I moor?"),
    ("modal", "Do guests have to show a pass?", "Can guests show a pass instead of a key?"),
    ("conditional", "Do I stir while it boils?", "Do I stir once it boils?"),
    ("conditional", "Do I need a rod and a permit?", "Do I need a rod or a permit?"),
    ("focus", "When is my first lesson?", "When is my next lesson?"),
    ("focus", "What is the second deepest lake?", "What is the deepest lake?"),
    ("focus", "What if it leaks?", "What if it leaks again?"),
    ("role", "What if I crash her bike?", "What if she crashes my bike?"),
    ("role", "Am I paid when someone rows my boat?", "Am I paid when I row someone's boat?"),
    ("preposition", "Is the paint dry by Friday?", "Is the paint dry on Friday?"),
    ("preposition", "Can I rest before the climb?", "Can I rest instead of the climb?"),
    ("preposition", "Is there a well at the mill?", "Is there a well near the mill?"),
    ("direction", "Does the host call the guest?", "Does the guest phone the host?"),
    ("preposition", "Can I pay in yen by post?", "Can I pay for yen by post?"),
    ("tense", "Was the fee paid on a boat I sold?", "Will the fee be paid on a boat I sell?"),
    ("tense", "Should I bring a net?", "Should I have brought a net?"),
    ("tense", "I lost my oar. What can I do?", "I am going to lose my oar. What can I do?"),
    ("modal", "Do I need to knock?", "Is it okay to knock?"),
    ("quantifier", "Who owns exactly one boat?", "Who owns more than one boat?"),
    ("quantifier", "Why do none of my seeds grow?", "Why do some of my seeds not grow?"),
    ("preposition", "Can the boy leave my coat?", "Can the boy leave with my coat?"),
    ("role", "When can my tenant end my lease?", "When can I end my tenant's lease?"),
    (
        "exchange",
        "What does a nurse say at the nurse desk?",
        "What does a cook say at the nurse desk?",
    ),
    ("direction", "Can I fill the jug from the tank?", "Can I fill the tank from the jug?"),
    ("notation", "What does cp *.md match?", "What does cp ?.md match?"),
    ("notation", "Where is CO found?", "Where is Co found?"),
    ("notation", "How do I play Am7?", "How do I play AM7?"),
    ("unit", "How many turns per second is it?", "How many turns per minute is it?"),
    ("number", "Is -$40 shown?", "Is $40 shown?"),
    ("notation", "What does %d print?", "What does %D print?"),
    ("notation", "Is 2 t of yeast enough?", "Is 2 T of yeast enough?"),
    # what one side adds
    ("addition", "How do I feed a hamster?", "How do I feed a pregnant hamster?"),
    ("addition", "How do I seal a jar for the oven?", "How do I seal a jar?"),
    ("addition", "Who may fish here?", "Who may fish here with a net?"),
    ("addition", "Can I return a lamp?", "Can I return a lamp that I painted?"),
    ("addition", "How do I file a claim?", "How do I file a dental claim?"),
    ("addition", "Is the pass valid?", "Is the pass bought abroad valid?"),
    ("addition", "How do I ease a pain?", "How do I ease a pain in my back?"),
    ("addition", "Can I swim?", "Can I swim after taking pills?"),
    # verbs that deny the next one
    ("negation", "Should I oil the hinge?", "Should I stop oiling the hinge?"),
    ("negation", "How do I see pop-ups?", "How do I avoid seeing pop-ups?"),
    ("negation", "What if I lock the gate?", "What if I forget to lock the gate?"),
    # qualifiers, and one word in the place of another
    ("qualifier", "Leave for full-time nurses", "How much leave have part-time nurses?"),
    ("qualifier", "Do employed artists pay it?", "Do self-employed artists pay it?"),
    ("qualifier", "How do I enrol?", "How do I enrol as a foreigner?"),
    ("qualifier", "Is it open on weekdays?", "On weekends, is it open?"),
    ("exchange", "How do I prune a cedar?", "How do I prune a birch?"),
    ("exchange", "Is the choir compulsory?", "Is the choir voluntary?"),
    (
        "exchange",
        "What is the best tent under 90 euros?",
        "What is the lightest tent under 90 euros?",
    ),
    ("exchange", "Why do I prune a rose?", "How do I prune a rose?"),
    ("exchange", "How many of my bees fly?", "Which of my bees fly?"),
    ("exchange", "How do I get a kayak?", "How do I return a kayak?"),
    ("exchange", "Do we dine if we use the ferry?", "Do we dine if we skip the ferry?"),
    # code, and capitals that tell the meaning
    ("notation", "What does sort -r do?", "What does sort -R do?"),
    ("notation", "Is a && b true?", "Is a || b true?"),
    ("notation", "What does \\w match?", "What does \\W match?"),
    ("notation", "Where do they speak Polish?", "Where do they speak polish?"),
    ("notation", "How much is 3 mW?", "How much is 3 MW?"),
    # other scripts
    ("script", "Как включить звук?", "Как выключить звук?"),
    ("script", "Почему не работает звук?", "Почему работает звук?"),
    ("script", "如何打开声音", "如何关闭声音"),
    ("script", "かきとは何ですか", "かぎとは何ですか"),
    ("script", "पिता कौन है", "पता कौन है"),
    ("script", "How large is angle α?", "How large is angle β?"),
]

PASS = [
    # one side adds words, and nothing to what is asked
    ("Do trams run on Sunday?", "Are there trams on Sunday?"),
    ("Which town is the seat of the court?", "What is the seat of the court?"),
    ("When is the best time to sow peas?", "When should I sow peas?"),
    ("Is it legal to own a ferret?", "Can I own a ferret?"),
    ("How do I add a new shelf?", "How do I add a shelf?"),
    ("How do I fold a kite exactly?", "How do I fold a kite?"),
    ("Am I allowed to fish here?", "Can I fish here?"),
    ("Good morning, how do I fold a kite?", "How do I fold a kite?"),
    ("How on earth do I fold a kite?", "How do I fold a kite?"),
    ("How do I get my kite back?", "How do I get my kite?"),
    ("Can I sell my kayak?", "Can my kayak be sold?"),
    ("Who won the race in the year 1998?", "Who won the race in 1998?"),
    ("Is the tower free on Mondays?", "On Mondays, is the tower free?"),
    ("How do I back up my maps?", "How do I make a backup of my maps?"),
    ("May I fish every day?", "May I fish daily?"),
    ("How long does glue dry?", "How many hours does glue dry?"),
    ("Is it safe to sail to Corfu?", "Is Corfu safe to sail to?"),
    ("Should I varnish the deck?", "Do I need to varnish the deck?"),
    ("Is the sauna free on Mondays?", "On Mondays, is the sauna free?"),
    ("Can I safely store paint?", "Is it safe to store paint?"),
    ("How are < and <= different?", "How are <= and < different?"),
    ("How do I stop getting the leaflet?", "How do I unsubscribe from the leaflet?"),
    ("How can I avoid buying tickets?", "How can I avoid tickets?"),
    ("What if I forget to lock the gate?", "What if I don't lock the gate?"),
    ("How do I stop a meeting?", "How do I end a meeting?"),
    ("Is it open from 8 to 6?", "Is it open 8 to 6?"),
    ("trips outside my zone", "What do trips beyond my zone cost?"),
    ("How do I get my coat back from you?", "How do I get my coat from you?"),
    ("Is there an option to fish here?", "Can I fish here?"),
    ("Excuse me, can I fish here?", "Can I fish here?"),
    ("May I ask whether fishing is allowed?", "Is fishing allowed?"),
    ("How am I supposed to fold a kite?", "How do I fold a kite?"),
    # verbs with particles, derived words, and words above others
    ("Why did they call off the race?", "Why did they cancel the race?"),
    ("Why did they call the race off?", "Why did they cancel the race?"),
    ("Can I put off the exam?", "Can I postpone the exam?"),
    ("Where do I complain about noise?", "Where do I make a complaint about noise?"),
    ("Can I sail while pregnant?", "Can I sail during pregnancy?"),
    ("Can a flaw be mended?", "Can a defect be mended?"),
    ("Where is the HR office?", "Where is the human resources office?"),
    ("How soon can I start?", "When can I start?"),
    ("What is the cheapest tent?", "What is the least expensive tent?"),
    ("Why are none of my seeds green?", "Why are not any of my seeds green?"),
    ("Could you kindly confirm whether it floats?", "Does it float?"),
    ("How do I apologise to a judge?", "How do I make an apology to a judge?"),
    # what is denied for the sake of asking
    ("I can't find my ticket", "Where is my ticket?"),
    ("I can't seem to remember my code, how do I reset it?", "How do I reset my code?"),
    ("I hope you don't mind me asking, how old is it?", "How old is it?"),
    ("My kite does not fly", "How do I get my kite to fly?"),
    ("Is the tower free?", "tower free?"),
    ("How much is the toll?", "What is the toll?"),
    ("Do I need to pay?", "Will I need to pay?"),
    # case and punctuation
    ("What is the capital of France?", "WHAT IS THE CAPITAL OF FRANCE"),
    ("what is the capital of france", "What Is The Capital Of France?"),
    ("Who wrote Hamlet", "who wrote hamlet???"),
    ("How do I use GitHub on my iPhone 15?", "how do i use github on my iphone 15"),
    ("Don’t you like it?", "don't you like it"),
    ("Is the U.S. bigger?", "is the US bigger"),
    ('What is the "best" way?', "What is the best way?"),
    ("What's new?", "What is new?"),
    # politeness
    ("Please tell me how to reset my password", "How do I reset my password?"),
    ("Could you tell me the capital of Peru, please?", "What is the capital of Peru?"),
    ("Hi! I'd like to know how to bake bread. Thanks!", "how to bake bread"),
    ("I don't know how to reset my password", "How do I reset my password?"),
    ("I am not sure how to reset it, can you help?", "How do I reset it?"),
    ("Is Acme® good?", "is acme good"),
    ("No, how do I reset it?", "How do I reset it?"),
    ("I am unsure how to reset it", "I am not sure how to reset it"),
    # synonyms
    ("How do I delete my account?", "How do I remove my account?"),
    ("How can I cancel my subscription?", "How do I close my subscription?"),
    ("Where can I buy shoes?", "Where can I purchase shoes?"),
    ("How do I fix my bike?", "How do I repair my bike?"),
    ("How do I turn off notifications?", "How do I disable notifications?"),
    ("How do I log in?", "How do I sign in?"),
    ("How do I begin a diet?", "How do I start a diet?"),
    ("What does the picture cost?", "What is the price of the photo?"),
    ("Change my email address", "Update my e-mail address"),
    ("Why can't I log in?", "Why am I unable to log in?"),
    ("Why did my payment fail?", "Why did my payment not go through?"),
    ("Is it not safe?", "Is it unsafe?"),
    ("Is it safe or not?", "Is it safe?"),
    ("A gluten-free cake", "A cake without gluten"),
    ("A gluten-free cake", "a gluten free cake"),
    ("A pain-free method", "A painless method"),
    ("I lack a licence", "I do not have a licence"),
    ("Mail all users except admins", "Mail all users excluding admins"),
    ("How long till it expires?", "How long until it expires?"),
    ("Holidays in the USA", "Holidays in the US"),
    ("How do I set up Wi-Fi?", "How do I set up WiFi?"),
    ("How do I set up Wi-Fi?", "how do i set up wifi"),
    ("Is Wifi safe?", "is Wi-Fi safe"),
    # singular, plural and other inflections
    ("How do I delete a file?", "How do I delete files?"),
    ("Best city for families", "Best cities for a family"),
    ("What do women want?", "What does a woman want?"),
    ("How do I cancel orders?", "cancelling an order"),
    # one value, many spellings
    ("Fifty ideas", "50 ideas"),
    ("Is $50 enough?", "Is 50 dollars enough?"),
    ("Is 20% enough?", "Is 20 percent enough?"),
    ("A salary of 50,000", "A salary of 50k"),
    ("The 3rd amendment", "the third amendment"),
    ("What happened on January 15, 2024?", "What happened on 15 Jan 2024"),
    ("What happened on 2024-01-15?", "What happened on January 15th 2024?"),
    ("Is 5kg heavy?", "Is 5 kilograms heavy?"),
    ("What is ５０？", "What is 50?"),
    ("Is 5㎏ heavy?", "Is 5 kg heavy?"),
    ("Half a litre", "0.5 litres"),
    ("What is ½?", "What is 1/2?"),
    ("twice the dose", "double the dose"),
    ("Please double-check it", "Please check it"),
    ("Music of the 90s", "Music of the nineties"),
    ("Does it close at 12:00?", "Does it close at noon?"),
    ("It takes 3-5 days", "It takes 3 to 5 days"),
    ("Is 5μg much?", "Is 5 mcg much?"),
    ("Solve x ≤ 3", "Solve x <= 3"),
    ("If x = 3, what is y?", "If x equals 3, what is y?"),
    # other scripts
    ("Как включить звук?", "КАК ВКЛЮЧИТЬ ЗВУК"),
    ("Звук: как включить?", "как включить звук"),
    ("意味は「犬」？", "意味は犬"),
    ("猫、犬。", "猫 犬"),
    # another order that changes nothing
    ("What is three plus five?", "What is five plus three?"),
    ("Flights from Rome to Oslo", "Flights to Oslo from Rome"),
    ("In Excel, how do I sum a column?", "How do I sum a column in Excel?"),
    ("Cats or dogs?", "Dogs or cats?"),
    ("Which is better, Lyft or Uber?", "which is better, Uber or Lyft?"),
    ("What is the difference between Lyft and Uber?", "difference between Uber and Lyft"),
    ("Compare Lyft to Uber", "compare Uber to Lyft"),
    ("What is 3 plus 5?", "What is 5 plus 3?"),
    ("Give me 3 tips for 20 dollars", "For 20 dollars, give me 3 tips"),
    ("How many pounds are in a kilo?", "A kilo is how many pounds?"),
    # words that only look like numbers, dates or units
    ("Which one is better?", "Which is better?"),
    ("May I park here?", "Can I park here?"),
    ("First of all, how do I vote?", "How do I vote?"),
    ("What is the capital of India?", "What is the Indian capital?"),
    ("What is the best plan i can get?", "What is the best plan a person can get?"),
    ("How do I find out the price?", "How do I find the price in here?"),
    ("Why can't I open the gate?", "I cannot open the gate, why?"),
    # small words that change nothing
    ("Why was my claim refused?", "Why is my claim refused?"),
    ("How can I prune a cedar?", "How should I prune a cedar?"),
    ("Is there any way to appeal?", "Is there a way to appeal?"),
    ("How do you boil rice?", "How do I boil rice?"),
    ("Tell me if it is open", "Is it open?"),
    ("Can I see all my orders?", "Can I see my orders?"),
    ("When will it arrive?", "When does it arrive?"),
    ("How do I change my address?", "How do you change your address?"),
    ("Who designed the barn?", "Who was the barn designed by?"),
    # words that are alike where all else is the same
    ("How do I alleviate a cramp?", "How do I relieve a cramp?"),
    ("What is the quickest way to Bath?", "What is the fastest way to Bath?"),
    ("How do I inform the council?", "How do I notify the council?"),
    ("Where can I get in touch with the guide?", "Where can I contact the guide?"),
    ("What does it cost to ship to Canada?", "What does shipping to Canada cost?"),
    ("I forgot my key", "I have forgotten my key"),
    ("A ticket to the play", "A ticket for the play"),
    # slips of the pen
    ("How do I change my adress?", "How do I change my address?"),
    ("How do I cancel my subscribtion?", "How do I cancel my subscription?"),
    ("How do I recieve a refund?", "How do I receive a refund?"),
    # sentence beginnings and titles
    ("Reset my password. Quickly please.", "Reset my password quickly"),
    ("How To Bake Fresh Bread", "how to bake fresh bread"),
    ("Easy Ways To Bake Bread At Home", "how can I easily bake bread in my house?"),
]


def kinds(asked: str, cached: str) -> set[str]:
    return {each.kind for each in GUARD.differences(asked, cached)}


@pytest.mark.parametrize(("kind", "asked", "cached"), DIFFER)
def test_questions_that_differ_where_it_matters_are_told_apart(
    kind: str, asked: str, cached: str
) -> None:
    assert kind in kinds(asked, cached)
    assert kind in kinds(cached, asked)


@pytest.mark.parametrize(("asked", "cached"), PASS)
def test_the_same_question_in_other_words_passes(asked: str, cached: str) -> None:
    assert GUARD.differences(asked, cached) == ()
    assert GUARD.differences(cached, asked) == ()


@pytest.mark.parametrize("kind", sorted(KINDS - {"frame", "unread"}))
def test_a_kind_that_is_left_out_is_not_reported(kind: str) -> None:
    asked, cached = next(pair for name, *pair in DIFFER if name == kind)
    rest = Guard(KINDS - {kind}).differences(asked, cached)
    assert kind not in {each.kind for each in rest}
    assert {each.kind for each in Guard({kind}).differences(asked, cached)} == {kind}


NEAR_MISSES = [*read_pairs("near_misses"), *read_pairs("later_near_misses")]


@pytest.mark.parametrize("kind", sorted({pair.kind for pair in NEAR_MISSES}))
def test_of_near_misses_written_by_hand_next_to_none_pass(kind: str) -> None:
    pairs = [pair for pair in NEAR_MISSES if pair.kind == kind]
    assert len(pairs) >= 20
    passed = [pair for pair in pairs if not kinds(pair.asked, pair.cached)]
    assert len(passed) <= 0.1 * len(pairs), passed


@pytest.mark.parametrize(("name", "most"), [("paraphrases", 0.04), ("later_paraphrases", 0.04)])
def test_of_paraphrases_written_by_hand_next_to_none_is_refused(name: str, most: float) -> None:
    pairs = read_pairs(name)
    assert len(pairs) >= 200
    refused = [pair for pair in pairs if kinds(pair.asked, pair.cached)]
    assert len(refused) <= most * len(pairs), refused


def test_whether_pairs_written_by_hand_differ_does_not_depend_on_which_is_asked() -> None:
    for pair in [*NEAR_MISSES, *read_pairs("paraphrases"), *read_pairs("later_paraphrases")]:
        forth, back = kinds(pair.asked, pair.cached), kinds(pair.cached, pair.asked)
        assert bool(forth) == bool(back), pair


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="'numbers'"):
        Guard({"numbers"})


CONTEXT = (
    "Use only this text. The old mill stands by the river and was built by two brothers who ground "
    "flour for the valley until the great flood took the wheel and the roof with it. "
)


def test_two_questions_behind_one_long_text_are_told_apart() -> None:
    asked, cached = CONTEXT + "Who built the mill?", CONTEXT + "What destroyed the roof?"
    assert "frame" in kinds(asked, cached)
    assert "frame" in kinds("Who built it? " + CONTEXT, "Where does it stand? " + CONTEXT)


def test_one_question_in_other_words_behind_one_long_text_passes() -> None:
    assert (
        kinds(CONTEXT + "How is a mill built?", CONTEXT + "how are mills built, please?") == set()
    )
    assert kinds(CONTEXT + "Delete the summary", CONTEXT + "Please remove the summary") == set()


@pytest.mark.parametrize(
    ("asked", "cached", "kind", "mine", "theirs"),
    [
        ("Name 5 rivers", "Name six rivers", "number", ("5",), ("6",)),
        ("is vitamin c in it", "is vitamin d in it", "name", ("c",), ("d",)),
        ("Is it unsafe?", "Is it safe?", "negation", ("unsaf",), ()),
        ("Is x ≤ 3 so?", "Is x = 3 so?", "symbol", ("<=",), ("=",)),
        ("Что такое кот?", "Что такое кит?", "script", ("кот",), ("кит",)),
    ],
)
def test_a_difference_names_what_either_side_says(
    asked: str, cached: str, kind: str, mine: tuple[str, ...], theirs: tuple[str, ...]
) -> None:
    (difference,) = GUARD.differences(asked, cached)
    assert (difference.kind, difference.asked, difference.cached) == (kind, mine, theirs)


@pytest.mark.parametrize(
    "question",
    [
        "What is the weather today?",
        "Who is the current president of France?",
        "latest news on Mars",
        "What happened this week?",
        "Is it open NOW?",
        "Which games came out last year?",
        "What did he say two days ago?",
        "Who is currently leading?",
        "What's on tonight?",
        "What happened yesterday?",
        "recent papers on caching",
        "the upcoming election",
        "gold price at the moment",
        "I'm in Paris this week. What's on?",
        "The new model came out yesterday. What does it cost?",
        "Who won yesterday? I missed the match.",
        "My rent is due tomorrow. Remind me.",
        "Tell me the score now",
        "Show me my limit right now",
        "I want to know what it costs now",
        "Can you get into my phone right now?",
        "Send me the score now",
        "Add the current track to my list",
        "What is my current limit?",
        "How do I reach the current leader?",
    ],
)
def test_words_of_relative_time_are_not_timeless(question: str) -> None:
    assert not GUARD.timeless(question)


@pytest.mark.parametrize(
    "question",
    [
        "What is the capital of France?",
        "How do I open a current account?",
        "What is my last name?",
        "What is an electric current?",
        "How do I know it?",
        "Who won the cup in 2022?",
        "What is this?",
        "How many days are in a week?",
        "I had a severe headache last night. Is it migraine?",
        "The cut on my hand got infected last week. Should I see a doctor?",
        "We have had no hot water for three days now",
        "Close my account now",
        "Please delete my profile right now!",
        "I would like to cancel my order now",
        "Set the heating to 20 now, please",
        "How do I change my current tariff?",
    ],
)
def test_questions_without_relative_time_are_timeless(question: str) -> None:
    assert GUARD.timeless(question)


@pytest.mark.parametrize(
    "question",
    [
        "Wo kann ich meine Rechnung herunterladen?",
        "Licht ausschalten",
        "Dónde está mi paquete",
        "quiero cancelar la reserva",
        "Comment puis-je changer mon adresse ?",
        "Quel est le prix du billet",
        "Quanto costa il biglietto per Roma?",
        "Onde fica a minha encomenda?",
        "Hoe wijzig ik mijn adres?",
        "Hur ändrar jag mitt lösenord?",
        "Hvor er pakken min, og hva koster det?",
        "Jak zmienić adres?",
        "Adresimi nasıl değiştiririm?",
        "Bagaimana cara membatalkan pesanan saya?",
        "mera parcel kahan hai",
        "Как отменить заказ?",
        "注文をキャンセルするには",
        "كيف ألغي الطلب؟",
        "Πώς ακυρώνω την παραγγελία;",
        "주문을 어떻게 취소하나요?",
    ],
)
def test_a_question_in_another_language_is_not_understood(question: str) -> None:
    assert not GUARD.understands(question)
    assert Guard(any_language=True).understands(question)


@pytest.mark.parametrize(
    "question",
    [
        "What does 猫 mean?",
        "How large is angle α?",
        'How do I say "wo ist der Bahnhof" in Thai?',
        "How do I get to Zürich from Málaga?",
        "café near the river",
        "reset password",
        "kubernetes ingress nginx",
        "los angeles weather",
        "2 + 2",
        "👍",
        "",
        "What is schadenfreude?",
        "El Niño effects on maize",
        "was the fee refunded?",
    ],
)
def test_english_with_foreign_words_and_texts_without_words_are_understood(question: str) -> None:
    assert GUARD.understands(question)


@pytest.mark.parametrize("pair", sorted({text for _, *pair in DIFFER for text in pair}))
def test_english_is_understood(pair: str) -> None:
    if not _other_script(pair):
        assert GUARD.understands(pair)


def _other_script(text: str) -> bool:
    return any(char.isalpha() and ord(char) > 0x2FF for char in text)


PIECES = """
not n't never 5 five -3 $ % kg 3.10 v2 "a b" `x` it's May may 2024-01-15 1/2/2024 from to Paris
paris than Than E1045 a@b.co http://x.y/z /etc/x ii . , ? ! before after turn on off one first
second I U.S. 中文 ٥ ½ É İ ß ﬁ 1,000 million 5:30 90s pounds £ + - < > unsafe safe
4g 20 1.5 k th x5 half double noon nineties ≤ ≠ = ^ ** 😀 ✓ звук है が C++ AB- appendix a b Mb
Wi-Fi wifi sugar-free except lack unfreeze
"""
TEXTS = st.text(max_size=120) | st.lists(st.sampled_from(PIECES.split())).map(" ".join)


@given(TEXTS, TEXTS)
@settings(max_examples=400, deadline=None)
def test_no_text_makes_the_guard_raise_and_the_sides_are_alike(one: str, other: str) -> None:
    forth, back = GUARD.differences(one, other), GUARD.differences(other, one)
    assert bool(forth) == bool(back)
    assert {each.kind for each in forth} | {each.kind for each in back} <= KINDS
    assert isinstance(GUARD.timeless(one), bool)


@given(TEXTS)
@settings(max_examples=200, deadline=None)
def test_a_text_never_differs_from_itself(text: str) -> None:
    assert GUARD.differences(text, text) == ()
    assert GUARD.differences(text, text + " ") == ()


QUESTIONS = st.sampled_from(
    sorted(
        {text for kind, *pair in DIFFER for text in pair if text.isascii() and kind != "notation"}
    )
)


def test_the_case_of_bits_and_bytes_counts() -> None:
    assert kinds("Is 10 Mb enough?", "Is 10 MB enough?") == {"unit"}
    assert kinds("Is 10Mb enough?", "Is 10 megabits enough?") == set()
    assert kinds("Is 10 mb enough?", "Is 10MB enough?") == set()


@given(QUESTIONS, st.sampled_from([str.lower, str.upper, str.title, str.capitalize, str.swapcase]))
def test_case_never_differs(question: str, recase: Callable[[str], str]) -> None:
    assert GUARD.differences(question, recase(question)) == ()


@given(QUESTIONS, st.sampled_from(["", "?", "!", ".", "...", " ?", "?!"]))
def test_punctuation_at_the_end_never_differs(question: str, mark: str) -> None:
    assert GUARD.differences(question, question.rstrip("?!.") + mark) == ()


@given(
    QUESTIONS,
    st.sampled_from(["Please, ", "Hello! ", "Could you tell me: ", "Hi, can you help me? ", ""]),
    st.sampled_from([" Thanks!", ", please", " Thank you.", ""]),
)
def test_politeness_never_differs(question: str, before: str, after: str) -> None:
    assert GUARD.differences(question, before + question + after) == ()


@pytest.mark.slow
@pytest.mark.parametrize(
    "piece", ["word ", "a-", "1,", "1.", "'", '"', "`", "/a", "a.", "-", "I don't ", "from a to b "]
)
def test_very_long_texts_are_read_in_bounded_time(piece: str) -> None:
    text = piece * (100_000 // len(piece))
    started = time.perf_counter()
    assert GUARD.differences(text, text + " and the end") != ()
    assert time.perf_counter() - started < 2


def test_what_lies_beyond_the_part_read_closely_is_compared_too() -> None:
    text = "all work and no play makes Jack a dull boy. " * 500
    assert kinds(text + "Summarise it", text + "Translate it") == {"unread"}
    assert kinds(text + "Summarise it", text + "summarise it · •") == set()
    assert kinds(text + "Is x ≤ 3?", text + "Is x ≥ 3?") == {"unread"}


def test_comparing_texts_read_before_is_fast() -> None:
    one = "How can I reset the password of my Google account in 2024 when I am not logged in?"
    other = "How could I change the password of my Google account in 2024 if not logged in"
    GUARD.differences(one, other)
    best = min(timeit.repeat(lambda: GUARD.differences(one, other), number=100, repeat=20)) / 100
    assert best < 100e-6


@pytest.mark.parametrize(
    ("actor", "other"),
    [
        ("Who trains the teacher?", "Whom does the teacher train?"),
        ("Who hired John?", "Who did John hire?"),
        ("Can you tell me who helps the nurse?", "Who does the nurse help?"),
    ],
)
def test_who_acts_is_not_to_whom_it_is_done(actor: str, other: str) -> None:
    kinds = {each.kind for each in GUARD.differences(actor, other)}
    assert "role" in kinds
    assert GUARD.differences(other, actor)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("Who can I contact?", "Whom can I contact?"),
        ("Who should I call?", "Who do I call?"),
        ("Who wrote the anthem?", "By whom was the anthem written?"),
        ("Who wrote Dracula?", "Who has written Dracula?"),
    ],
)
def test_one_actor_in_other_words_is_no_difference(one: str, two: str) -> None:
    assert not GUARD.differences(one, two)


@pytest.mark.parametrize(
    "question",
    ["My car is dead, what do I do now?", "I lost the key, what now?", "Speak French from now on"],
)
def test_now_in_a_phrase_is_no_time(question: str) -> None:
    assert GUARD.timeless(question)
    assert not GUARD.timeless("Is the shop open now?")
