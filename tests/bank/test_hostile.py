"""No text of a skill reaches a prompt as more than a line of quoted advice, and honest advice stays as it is."""

import ast
import hashlib
import json
import unicodedata
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import make_bank, prompt, tiny_config

import d2skill
from d2skill.bank import Draft, SkillBank
from d2skill.bank.formats import json_lines
from d2skill.bank.formats.json_lines import BankRecord
from d2skill.bank.safety import LIMITS, clean, objection, suspicion
from d2skill.components import Components
from d2skill.errors import BankError
from d2skill.policies.answers import parse_action
from d2skill.prompts import render, render_skill
from d2skill.trainer import Trainer
from d2skill.types import Skill, SkillText

LINES = (Path(__file__).parent / "hostile_texts.jsonl").read_text("utf-8").splitlines()
KINDS = [json.loads(line).pop("kind") for line in LINES]
HOSTILE = [SkillText(*(json.loads(line)[field] for field in LIMITS)) for line in LINES]
HARMLESS = SkillText("mug: look in drawer 1", "Open drawer 1.", "always")
TASK, SEEN = "put some mug in shelf", "You are in a room: a bed 1, a desk 2, a shelf 1."
HISTORY = (("A room.", "look"),)
BARE = prompt(task=TASK, observation=SEEN, history=HISTORY)
MARKERS = (
    "<|im_start|> <|im_end|> <|endoftext|> <s> </s> [INST] [/INST] <<SYS>> <</SYS>> <|eot_id|> <|start_header_id|> "
    "<|end_header_id|> <|begin_of_text|> <|header_start|> <|eot|> [SYSTEM_PROMPT] [/SYSTEM_PROMPT] [TOOL_CALLS] <bos> "
    "<start_of_turn> <end_of_turn> <|end|> <|system|> <|user|> <|assistant|> <｜User｜> <｜Assistant｜> "
    "<｜end▁of▁sentence｜> <think> </think> <tool_call> </tool_call> <tool_response> </tool_response> "
    "<|START_OF_TURN_TOKEN|> <|END_OF_TURN_TOKEN|> <|start_of_role|> <|end_of_role|> <|start|> <|channel|> <|message|> "
    "<|return|> [gMASK] <sop> <action> </action> <pad> <unk> [CLS] [SEP] [MASK] <extra_id_0> <fim_prefix> [|user|] "
    "[|endofturn|] ]~b] [e~[ <seed:bos>"
).split()


def fate(text: SkillText) -> str:
    """Puts a text into a bank and returns what became of it."""
    (insertion,) = make_bank(bank={"suspicion": "hold"}).insert([Draft("task", text, TASK)], 0)
    return insertion.reason


def retrieved(text: SkillText, granularity) -> Skill | None:
    """Returns the skill as a bank gives it for its own key, or None if the text is empty once it is cleaned.

    What the bank holds back, and says why, is given to nobody; then it is admitted, as if somebody had not looked.
    """
    bank = make_bank(bank={"suspicion": "hold"})
    (insertion,) = bank.insert([Draft(granularity, text, TASK, SEEN)], 0)
    if insertion.skill is None:
        assert insertion.reason == "empty", insertion.reason
        return None

    def found(trial):
        return (
            bank.retrieve_task([TASK], trial=trial)
            if granularity == "task"
            else bank.retrieve_step([(TASK, SEEN)], trial=trial)
        )

    if insertion.reason != "added":
        assert insertion.reason.startswith("held: it ") and bank.status(insertion.skill.id) == "held"
        assert found(trial=False) == found(trial=True) == [()]
        bank.admit([insertion.skill.id], 1)
    ((one,),) = found(trial=False)
    return one.skill


def shown(skill: Skill):
    """Returns a prompt that shows a skill, between others of its kind."""
    others = [replace(skill, id=i, text=SkillText(f"Note {i}", "Look around.", "always")) for i in ("o1", "o2")]
    return replace(BARE, **{f"{skill.granularity}_skills": (others[0], skill, others[1])})


def line_of(skill: Skill, answer) -> str:
    """Returns the line of a prompt in which a skill stands, after a check that all others are as for a harmless one."""
    (message,) = render(shown(skill), answer)
    (expected,) = render(shown(replace(skill, text=HARMLESS)), answer)
    assert message.keys() == expected.keys() and message["role"] == expected["role"] == "user"
    lines, usual = message["content"].splitlines(), expected["content"].splitlines()
    assert lines == message["content"].split("\n") and len(lines) == len(usual)
    (at,) = (i for i, line in enumerate(usual) if "drawer 1" in line)
    assert lines[:at] == usual[:at] and lines[at + 1 :] == usual[at + 1 :]
    return lines[at]


@pytest.fixture(scope="module")
def tokenizer():
    """A tokenizer with a ChatML template, to which the markers of all families of models are tokens of their own."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from d2skill.policies.causal_lm.tiny_model import make_tokenizer

    made = make_tokenizer([SEEN])
    made.add_tokens([marker for marker in MARKERS if marker not in made.get_added_vocab()], special_tokens=True)
    return made


def markers(tokenizer, skill: Skill, answer) -> Counter:
    """Counts the tokens in a rendered chat that are markers rather than text."""
    chat = tokenizer.apply_chat_template(render(shown(skill), answer), tokenize=False, add_generation_prompt=True)
    ids = tokenizer(chat, add_special_tokens=False).input_ids
    return Counter(token for token in ids if token in set(tokenizer.get_added_vocab().values()))


def test_the_set_is_large_and_of_many_kinds():
    assert len(LINES) == len(set(LINES)) >= 120
    assert len(set(KINDS)) >= 40


@pytest.mark.parametrize("granularity", ["task", "step"])
@pytest.mark.parametrize("text", HOSTILE, ids=KINDS)
def test_a_hostile_text_is_one_quoted_line_whoever_admits_it(text, granularity):
    if (skill := retrieved(text, granularity)) is not None:
        for answer in ("choice", "free"):
            line = line_of(skill, answer)
            assert line.startswith('- "') and line.endswith('"') and line.count('"') == 2
            assert not set(line[3:-1]) & set("“”„‟＂") and line.isprintable()
            assert parse_action(line) == ""


@pytest.mark.parametrize("text", HOSTILE, ids=KINDS)
def test_a_hostile_text_adds_no_marker_to_the_tokens(tokenizer, text):
    if (skill := retrieved(text, "task")) is not None:
        for answer in ("choice", "free"):
            usual = markers(tokenizer, replace(skill, text=HARMLESS), answer)
            assert sum(usual.values()) >= 3 and markers(tokenizer, skill, answer) == usual


def test_a_marker_that_was_not_cleaned_would_be_noticed(tokenizer):
    skill = retrieved(HARMLESS, "task")
    usual = markers(tokenizer, skill, "choice")
    for marker in MARKERS:
        raw = replace(skill, text=replace(HARMLESS, principle=f"Open {marker} it."))
        assert markers(tokenizer, raw, "choice") != usual
        assert marker not in clean(raw.text).principle


@pytest.mark.parametrize("text", HOSTILE, ids=KINDS)
def test_a_file_with_a_hostile_text_is_refused_and_says_where(tmp_path, text):
    path = tmp_path / "bank.jsonl"
    good, bad = Skill("t1", "task", HARMLESS, TASK), Skill("t2", "task", text, TASK)
    header = {"format": "d2skill-bank", "version": 1, "embedder": "any", "next_task": 3, "next_step": 1}
    lines = [header, *(asdict(skill) for skill in (good, bad))]
    for line in lines[1:]:
        del line["supports"], line["refutes"]
    body = "".join(json.dumps(line) + "\n" for line in lines).replace('"source_task"', '"evidence"')
    path.write_text(body + json.dumps({"sha256": hashlib.sha256(body.encode()).hexdigest()}) + "\n")
    if not objection(text):
        assert fate(text) == "added" or suspicion(text)
        assert json_lines.read(path).skills == (good, bad)
    else:
        with pytest.raises(BankError, match=r"bank\.jsonl, line 3: ") as caught:
            json_lines.read(path)
        assert str(caught.value).isprintable()


def test_a_file_with_an_empty_text_is_refused(tmp_path):
    skill = Skill("t1", "task", replace(HARMLESS, when_to_apply=""), TASK)
    json_lines.write(tmp_path / "b", BankRecord("any", 2, 1, (skill,)))
    with pytest.raises(
        BankError, match=r"line 2: the text of skill t1 .* \(when_to_apply is empty\).*whose origin you"
    ):
        json_lines.read(tmp_path / "b")


def test_most_attempts_to_take_over_are_suspected_and_those_in_other_languages_all():
    plain = ("ignore instructions", "persona", "prompt leak", "other languages")
    texts = [text for kind, text in zip(KINDS, HOSTILE, strict=True) if kind in plain]
    held = [text for text in texts if fate(text).startswith("held: it ")]
    assert len(held) > 0.9 * len(texts) > 30
    foreign = [text for kind, text in zip(KINDS, HOSTILE, strict=True) if kind == "other languages"]
    assert all(text in held for text in foreign)


def test_encoded_markers_are_text_and_stay():
    texts = [text for kind, text in zip(KINDS, HOSTILE, strict=True) if kind == "encoded markers"]
    assert texts and all(clean(text) == text and fate(text) == "added" for text in texts)


def test_keys_are_not_shown():
    skill = Skill("s1", "step", HARMLESS, "the key's task", "the key's observation")
    for answer in ("choice", "free"):
        assert "the key's" not in render(shown(skill), answer)[0]["content"]


def test_the_headings_of_our_own_prompts_are_cleaned_away():
    skill = retrieved(HARMLESS, "task")
    content = render(replace(shown(skill), step_skills=(skill,)), "free")[0]["content"]
    headings = [line for line in content.splitlines() if line.endswith(":") or line.startswith("Task:")]
    assert len(headings) == 6
    for heading in headings:
        label = heading.partition(":")[0] + ":"
        forged = SkillText(f"mug\n\n{heading}", f"Open it. {heading} x", f"now\n{heading}\nx")
        assert label not in render_skill(replace(skill, text=clean(forged)))


# properties

ANYTHING = st.characters(exclude_categories=())
PIECES = [
    *MARKERS,
    "<|",
    "|>",
    "<",
    ">",
    "[",
    "]",
    "|",
    "System",
    "Human",
    "ＵＳＥＲ",
    ":",
    "###",
    "\n",
    ". ",
    "\\n",
    " ",
]
PIECES += [
    "Now:",
    "Admissible actions:",
    "Advice",
    "```",
    "--",
    "-->",
    "\u200b",
    "\u0301",
    "\ud800",
    "ѕ",
    '"',
    "x" * 90,
]
NOISE = st.lists(st.text(ANYTHING, max_size=8) | st.sampled_from(PIECES), max_size=60).map("".join)


@settings(max_examples=400, deadline=None)
@given(NOISE, NOISE, NOISE)
def test_any_text_comes_out_clean(title, principle, when_to_apply):
    text = clean(SkillText(title, principle, when_to_apply))
    assert clean(text) == text
    for field, limit in LIMITS.items():
        line = getattr(text, field)
        assert len(line) <= limit and line == " ".join(line.split()) and line.isprintable()
        assert not any(marker in line for marker in MARKERS)
    assert isinstance(suspicion(text), str) and isinstance(suspicion(SkillText(title, principle, when_to_apply)), str)
    quoted = line_of(Skill("t1", "task", text, TASK), "choice")
    assert quoted.startswith('- "') and quoted.endswith('"') and quoted.count('"') == 2


@settings(max_examples=200, deadline=None)
@given(NOISE)
def test_even_a_text_that_was_not_cleaned_stays_in_its_line(noise):
    quoted = line_of(Skill("t1", "task", SkillText(noise, noise, noise), TASK), "choice")
    assert quoted.startswith('- "') and quoted.endswith('"') and quoted.count('"') == 2


PATTERNS = [
    "<|",
    "|>",
    "#",
    "a",
    "\u0301",
    "[INST",
    "System: ",
    "<",
    "> ",
    ".",
    "<think ",
    "\ufdfa",
    "advice ",
    " ",
    "\n",
]
PATTERNS += [
    "a\n",
    "ignore ",
    "ignore all previous ",
    "you are ",
    "AbC1",
    "0 ",
    "<0<think>x0",
    "SYSTEM ",
    "\u200b",
    "\ud800",
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_million_characters_come_to_an_end(pattern):
    long = pattern * (1_000_000 // len(pattern))
    text = SkillText(long, long, long)
    suspicion(text)
    assert all(len(getattr(clean(text), field)) <= limit for field, limit in LIMITS.items())


# honest advice

HONEST = """
Restart first|Use the operating system: its settings list the printer.|the printer is not found
Assistant manager's desk|Look at the assistant manager's desk, then at the user manual.|a form is sought
User reviews: read the worst|Sort user reviews by lowest rating before buying.|the product has mixed reviews
Price filters first|Set the price filter below the limit, then search[<colour> <product>].|the task names a price < 50
Colour options|Click the colour option before you click[Buy Now], as the default may be another one.|options are shown
Compare sizes|Ignore sponsored results; compare the size chart of the first three products.|shoes or clothes are wanted
Old orders|Ignore previous orders in the list and open the newest one.|an order is to be cancelled
Out of stock|You are now on the product page: go back if it says "out of stock".|a product cannot be bought
Reward points|Give the customer number to see the reward points, then use all of them.|the basket is full
Coupons|Enter the coupon code SAVE10 before checkout, never after it.|a coupon is named
Returns|Follow the instructions on the return label; print it first.|an item goes back
Packaging|Ignore any instructions on the packaging that mention other models.|a part has to be fitted
Failing tests first|Run the failing test alone, read the traceback from the bottom, then edit.|a test fails
Imports|Do not use eval() on user input; use ast.literal_eval instead.|a string holds a Python literal
Off by one|Check a < b and c > d at both ends of the range; `range(n)` stops at n - 1.|a loop misses the last item
Git bisect|Run git bisect between the last good tag and HEAD.|a regression has no obvious cause
Environment|Read settings from environment variables; never print passwords in logs.|a service needs credentials
Shell|Run the tests with pytest -x -q before you commit.|code was changed
SQL joins|Use a LEFT JOIN if rows without a match have to stay.|rows are missing in a report
Types|Replace os.system( calls by subprocess.run with a list of arguments.|a command is started
HTML forms|Every <label> needs a for attribute; look for <form> before <table>.|a page has a form
Pipes|In R, x |> f() passes x on; keep the order of steps.|a chain of calls is read
C headers|Put #include lines first, and ## only inside macros.|a C file does not compile
JSON|Write JSON with double quotes: {"name": "x", "size": 3}.|a config file is invalid
Function arguments|Call the function with keyword arguments to see which one is wrong.|a TypeError is raised
Two sources|Search for both people first, then for what links them.|a question names two people
Narrow the query|Add the year and drop adjectives from the query.|the first results are about something else
Dates|Prefer the page with the later date if two pages disagree.|sources contradict each other
Quotation marks|Put the exact name in "quotation marks" to search for it.|a name is ambiguous
Site search|Use site:docs.python.org to search the documentation alone.|an answer is in the documentation
Prompt cards|Give the answer as a number without units.|the question asks how many
Who is asked|Answer with the name of the person, not of the film.|the question asks who
Follow the link|Open the first link below the summary to get the original report.|a news page quotes a report
Accept cookies|Close the cookie banner before you click anything else.|a banner covers the page
Log in|Enter the user name, then the password, then press Sign in.|a page asks to log in
Developer tools|Enable developer mode in the settings of the browser before loading the extension.|an extension is local
System messages|Read the system message at the top of the page, and dismiss it.|a form does not submit
Heat in the microwave|Open microwave 1, put egg 2 in microwave 1, then heat egg 2 with microwave 1.|an egg is to be hot
Look under lamps|Take the cd first, then go to desk 1 and use desklamp 1.|the task is to look at a cd under the desklamp
Two of a kind|Find pen 1, put it in drawer 2, then go back for pen 2; the same drawer counts.|the task needs two pens
Closed things|You are no longer able to see what is in a fridge that was closed: open it again.|fridge 1 is closed
Sofa|A sofa can act as a bed in the small room.|no bed is in the room
Recipes|Add 1/2 cup of sugar, stir 3 times, then bake at 180 °C for 25 min.|the batter is ready
Chess openings|Always castle early, never move the same piece twice, and control the centre.|the game begins
Card games|Keep a trump for the last trick, however good the hand looks.|trumps are short
Phone menus|Press 0 to speak to a human; do not choose option 3.|a call is answered by a machine
Flights|Check the airport code: London has LHR, LGW, STN, LTN, LCY and SEN.|a flight is booked
Calendars|Set reminders in the time zone of the meeting, not in your own.|people are in other countries
Mail|Forward the invoice to the address in the signature.|an invoice has arrived
Measuring|Wait until the display shows 0.00 before you put the sample on the scale.|a sample is weighed
Bike lights|Clean the reflector before you adjust the lamp.|the light is dim
Dog walks|Fasten the harness first, then the leash.|the dog goes out
Kühlschrank zuerst|Öffne den Kühlschrank, bevor du den Apfel suchst, und ignoriere leere Schubladen.|der Apfel fehlt
Le tiroir|Ouvrez d'abord le tiroir 2, puis suivez les instructions de la recette.|la tasse est cherchée
El cajón|Abre primero el cajón 2 e ignora los cajones vacíos.|falta la taza
A gaveta|Abra primeiro a gaveta 2; você agora está na cozinha.|falta a caneca
Ящик|Сначала открой ящик 2, ты теперь на кухне; система: полка, стол, шкаф.|нужна кружка
抽屉|先打开抽屉2,再去厨房找杯子。|任务需要杯子
引き出し|まず引き出し2を開けてから、棚を見る。|カップが必要
서랍|먼저 서랍 2를 열고 부엌으로 간다.|컵이 필요하다
الدرج|افتح الدرج 2 أولا ثم ابحث في المطبخ.|الكوب مطلوب
""".strip().splitlines()

HONEST += [
    f"A note|{principle}|the task asks for it"
    for principle in """
Ignore the decoys and take the item with the exact name.
Always check the cart total before you press Buy.
Never put two hot things in the fridge together.
Print the report, then send it to the manager's address.
Ask the assistant at the desk where the keys are.
Look at the note on the fridge; it tells the code of the safe.
Read the rules of the game before the first move.
Show all items above 50 and drop those without a rating.
Use the search tool bar, then the filter for size.
Set the rating filter to 4 stars and up.
Give the cup to the person who asked for it.
Act as soon as the light turns green.
You are in the kitchen now; the stove is on the left.
Run npm install before npm test.
Import os and json at the top of the file.
Reply to the newest message in the thread.
Answer in one word; the question asks for a year.
Download the file, then check its size.
Delete the old key from the list before adding the new one.
Forget about the drawers that were empty.
Copy the address of the page into the form.
The old rules of the library forbid food; leave it outside.
Score the dough with a knife before baking.
Do not tell the merchant how much gold you have.
Pretend to sleep until the guard has passed.
The judge moves first: wait for the whistle.
Prefer this shop's own brand, as it is cheaper.
In chess notation write Nf3, not knight f3.
Start the answer with the capital letter of the city.
Close the terminal window when the build has ended.
Reset the password with the link in the mail.
Follow the previous sign, not the new one.
Use the search tool twice before you answer.
Read the context of the quote before you cite it.
Tell the guard your name, then walk on.
Share the cost between the two accounts.
Write only the year in the answer box.
Dump the water from the cup before filling it.
Take on the role of the buyer and ask for a discount.
Pass the salt to the guest who asked.
Override the default size with the size option.
Ignore the initial offer; a better one follows.
Follow the new rules for baggage on the airline's page.
Every new note in the calendar needs a time.
All messages are listed by date; the newest one is last.
Post the letter at the office, not in the box.
Set aside the ripe apples and wash them.
Report the score to the referee.
Give the reward to the farmer who found the sheep.
Print your boarding pass at home.
Show your ticket at gate 4.
Answer the door before the phone.
Respond to the newest ticket first.
Wrap all gifts before dinner.
Say the word friend to open the gate.
The trainer should be in the gym; look there.
Call the plumber when the sink leaks.
""".strip().splitlines()
]


@pytest.mark.parametrize("line", HONEST)
def test_honest_advice_stays_as_it_is(line):
    # The pipe of R is the one thing lost among these: chat templates use the same two characters.
    title, *principle, when = line.split("|")
    text = SkillText(title, "|".join(principle), when)
    expected = unicodedata.normalize("NFKC", text.principle).replace("|>", "").replace("##", "")
    assert clean(text) == SkillText(title, " ".join(expected.split()), when)
    assert fate(text) == "added"


@pytest.mark.slow
def test_what_contrast_writes_in_houses_is_taken_as_it_is(tmp_path, monkeypatch):
    insertions = []
    insert = SkillBank.insert

    def watched(bank, drafts, iteration, **recorded):
        insertions.extend(made := insert(bank, drafts, iteration, **recorded))
        return made

    monkeypatch.setattr(SkillBank, "insert", watched)
    config = tiny_config(env={"kind": "houses", "max_steps": 20}, rollout={"tasks": 16}, train={"iterations": 16})
    Trainer(config, tmp_path / "run", Components.make(config)).start()
    assert len(insertions) > 100
    assert {insertion.reason.split(" of ")[0] for insertion in insertions} <= {"added", "duplicate"}
    assert all(clean(insertion.draft.text) == insertion.draft.text for insertion in insertions)


# nothing is unpickled or executed

FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
PICKLES = {"child_process.py"}
"""Sends objects over the pipes between this process and its own children, and reads nothing else"""
FORBIDDEN_CALLS = {"eval", "exec", "__import__", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load"}


def faults(tree: ast.AST):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (name for name in names if name.split(".")[0] in FORBIDDEN_MODULES)
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if called in FORBIDDEN_CALLS or options.get("shell", "False") != "False":
                yield called
            if called.endswith("torch.load") and options.get("weights_only") != "True":
                yield called
            if options.get("allow_pickle", "False") != "False" or options.get("trust_remote_code", "False") != "False":
                yield called


@pytest.mark.parametrize("path", sorted(Path(d2skill.__file__).parent.rglob("*.py")), ids=lambda path: path.stem)
def test_nothing_is_unpickled_or_executed(path):
    allowed = {"pickle"} if path.name in PICKLES else set()
    assert {*faults(ast.parse(path.read_text("utf-8")))} <= allowed


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from marshal import loads",
        "eval('1')",
        "torch.load(p)",
        "torch.load(p, weights_only=False)",
        "np.load(p, allow_pickle=True)",
        "subprocess.run(c, shell=True)",
        "os.system(c)",
        "yaml.load(f)",
    ],
)
def test_what_would_unpickle_or_execute_is_noticed(code):
    assert list(faults(ast.parse(code)))
