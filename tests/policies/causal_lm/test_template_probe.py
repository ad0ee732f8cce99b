"""Chat templates of many kinds: each is probed, and pinned or refused."""

import logging

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from lm_toys import SMALL, changed, policy, prompt, texts, write_model  # noqa: E402

from d2skill.errors import ConfigError  # noqa: E402
from d2skill.policies.causal_lm import template_probe  # noqa: E402
from d2skill.policies.causal_lm.chat_template import ChatTokenizer, count_instruction_tokens  # noqa: E402
from d2skill.policies.causal_lm.template_probe import ChatTemplate  # noqa: E402
from d2skill.policies.causal_lm.tiny_model import make_tokenizer  # noqa: E402
from d2skill.types import Row  # noqa: E402

USER = {"role": "user", "content": "Where is the mug?"}
SYSTEM = {"role": "system", "content": "Be brief."}

CHATML = (
    "{%- for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{%- endif %}"
)
NO_SYSTEM = (  # of the first Gemmas
    "{%- if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{%- endif %}"
    "{%- for m in messages %}{{ '<start_of_turn>' + m.role + '\n' + m.content + '<end_of_turn>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{%- endif %}"
)
SYSTEM_IGNORED = (
    "{%- for m in messages if m.role != 'system' %}{{ m.role + ': ' + m.content + '<|im_end|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ 'assistant: ' }}{%- endif %}"
)
DATED = (  # as in Llama 3.2
    "{%- if not date_string is defined %}{%- set date_string = strftime_now('%d %b %Y') %}{%- endif %}"
    "{{ '<|im_start|>system\nToday Date: ' + date_string + '<|im_end|>\n' }}" + CHATML
)
THINKS = CHATML.replace("assistant\n'", "assistant\n<think>\n'")  # as in the distilled R1: answers without thoughts
THINKS_AND_SHOWS = (  # as in Qwen3-Thinking: the template writes the thoughts of past answers
    "{%- for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{%- if m.role == 'assistant' %}{{ '<think>\n\n</think>\n\n' }}{%- endif %}"
    "{{ m.content + '<|im_end|>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{%- endif %}"
)
ASKED_NOT_TO = (  # as in Qwen3: an empty thought where thinking is off
    CHATML[: -len("{%- endif %}")]
    + "{%- if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{%- endif %}"
    + "{%- endif %}"
)
HARMONY = (  # as in gpt-oss
    "{{ '<|start|>system<|message|>Current date: ' + strftime_now('%Y-%m-%d') + '<|end|>' }}"
    "{%- for m in messages %}{%- if m.role == 'assistant' %}"
    "{{ '<|start|>assistant<|channel|>final<|message|>' + m.content + ('<|return|>' if loop.last else '<|end|>') }}"
    "{%- else %}{{ '<|start|>' + m.role + '<|message|>' + m.content + '<|end|>' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|start|>assistant' }}{%- endif %}"
)
PLAIN_ENDS = (
    "{%- for m in messages %}{{ '### ' + m.role + '\n' + m.content + '\n### End\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '### assistant\n' }}{%- endif %}"
)
PARTS = (
    "{%- for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{%- for part in m.content if part.type == 'text' %}{{ part.text }}{%- endfor %}{{ '<|im_end|>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{%- endif %}"
)
FAILS = "{{ raise_exception('A tool is wanted') }}"
DEAF = "{{ '<|im_start|>assistant\n' }}"


def tokenizer(template, special=()):
    made = make_tokenizer(texts())
    if special:
        made.add_special_tokens({"additional_special_tokens": list(special)})
    made.chat_template = template
    return made


def chat(template, answer="choice", special=()):
    made = tokenizer(template, special)
    return ChatTokenizer(made, changed(answer=answer), [made.eos_token_id], 2048)


@pytest.mark.parametrize("template", [NO_SYSTEM, SYSTEM_IGNORED])
def test_without_a_system_role_its_text_goes_to_the_user(template):
    made = ChatTemplate(tokenizer(template))
    text = made.render([SYSTEM, USER])
    assert "Be brief.\n\nWhere is the mug?" in text and "system" not in text
    assert ChatTemplate(tokenizer(CHATML)).render([SYSTEM, USER]).startswith("<|im_start|>system\nBe brief.<|im_end|>")


@pytest.mark.parametrize("template", [DATED, HARMONY])
def test_the_date_is_pinned_and_this_is_said_once(template, caplog):
    template_probe._report_pinned_date.cache_clear()
    with caplog.at_level(logging.WARNING):
        first = ChatTemplate(tokenizer(template), "dated").render([USER])
        ChatTemplate(tokenizer(template), "dated")
    assert "01 Jan 2025" in first or "2025-01-01" in first
    assert [r.getMessage() for r in caplog.records] == [
        'the chat template of "dated" shows the date of today: it is always given 2025-01-01'
    ]


def test_a_template_without_a_date_says_nothing(caplog):
    template_probe._report_pinned_date.cache_clear()
    ChatTemplate(tokenizer(CHATML), "plain")
    assert not caplog.records


@pytest.mark.parametrize(
    ("template", "ending"),
    [
        (THINKS, "<|im_start|>assistant\n<think>\n\n</think>\n\n"),
        (THINKS_AND_SHOWS, "<|im_start|>assistant\n<think>\n\n</think>\n\n"),
        (ASKED_NOT_TO, "<|im_start|>assistant\n<think>\n\n</think>\n\n"),
        (THINKS.replace("<think>\n'", "<|START_THINKING|>'"), "assistant\n<|START_THINKING|>\n<|END_THINKING|>\n\n"),
        (THINKS.replace("<think>\n'", "[THINK]'"), "assistant\n[THINK][/THINK]"),
        (THINKS.replace("<think>\n'", "<seed:think>'"), "assistant\n<seed:think>\n</seed:think>\n\n"),
        (CHATML, "<|im_start|>assistant\n"),
        (HARMONY, "<|start|>assistant<|channel|>final<|message|>"),
    ],
)
@pytest.mark.parametrize("answer", ["choice", "free"])
def test_the_answer_begins_behind_thoughts_and_channels(template, ending, answer):
    made = chat(template, answer)
    text = made.tokenizer.decode(made.prompt_ids(prompt(1)))
    assert text.endswith(ending) and text.count("think>") in (0, 2, 4)


def test_a_prompt_whose_text_ends_like_a_thought_is_left_alone():
    made = ChatTemplate(tokenizer(CHATML))
    text = made.render([{"role": "user", "content": "It says <think>"}])
    assert text.endswith("<think><|im_end|>\n<|im_start|>assistant\n")


def test_the_channel_ends_with_the_token_that_the_template_shows():
    made = chat(HARMONY, special=("<|return|>", "<|end|>", "<|start|>", "<|channel|>", "<|message|>"))
    end = made.tokenizer.convert_tokens_to_ids("<|return|>")
    assert made.ending == (end,) and end in made.end_tokens


def test_an_end_of_turn_that_is_an_added_token_but_not_special_counts():
    made = tokenizer(NO_SYSTEM)
    made.add_tokens(["<end_of_turn>"])
    end = made.convert_tokens_to_ids("<end_of_turn>")
    assert ChatTokenizer(made, SMALL, [made.eos_token_id], 2048).end_token == end


@pytest.mark.parametrize("answer", ["choice", "free"])
def test_an_end_of_turn_of_plain_text_ends_answers_and_is_no_part_of_them(answer):
    made = chat(PLAIN_ENDS, answer)
    assert made.tokenizer.decode(made.ending) == "\n### End" and len(made.ending) > 1
    tokens = made.action_ids("look around")
    assert tokens[-len(made.ending) :] == made.ending
    assert made.has_ended(tokens) and made.decode(tokens) == "look around"
    assert not any(made.has_ended(tokens[:n]) for n in range(1, len(tokens)))
    trie = made.trie(("look", "look around"))
    assert all(trie.answers(_walk(trie, made.action_ids(a))) for a in ("look", "look around"))


def _walk(trie, tokens):
    node = 0
    for token in tokens:
        node = trie.child(node, token)
    return node


@pytest.mark.parametrize("answer", ["choice", "free"])
@pytest.mark.parametrize("template", [PLAIN_ENDS, THINKS, HARMONY, PARTS, NO_SYSTEM, DATED])
def test_models_with_such_templates_act_learn_and_come_back(tmp_path, template, answer):
    folder = write_model(tmp_path / "from")
    (folder / "chat_template.jinja").write_text(template)
    p = policy(changed(model=str(folder), answer=answer))
    prompts = [prompt(i) for i in range(4)]
    decisions = p.act(prompts, range(4), 1.0)
    learn = [Row(a, d, 1.0) for a, d in zip(prompts, decisions, strict=True)]
    assert p.update(learn, 0)["policy/ratio_error"] < 1e-4
    losses = [p.imitate([(a, a.actions[0]) for a in prompts], seed)["warm_start/loss"] for seed in range(4)]
    assert losses[-1] < losses[0]
    p.save(tmp_path / "saved")
    assert p.generate_chat([[SYSTEM, USER]], 6)
    loaded = policy(changed(model=str(folder), answer=answer))
    loaded.load(tmp_path / "saved")
    assert loaded.chat.prompt_ids(prompts[0]) == p.chat.prompt_ids(prompts[0])


def test_messages_are_parts_where_a_template_wants_them():
    assert "Where is the mug?<|im_end|>" in ChatTemplate(tokenizer(PARTS)).render([USER])


@pytest.mark.parametrize(("template", "reason"), [(FAILS, "A tool is wanted"), (DEAF, "does not show what the user")])
def test_a_template_that_cannot_be_used_is_refused(template, reason):
    with pytest.raises(ConfigError, match=f'template of "m" cannot be used .*{reason}.*: use another model'):
        count_instruction_tokens(tokenizer(template), "choice", "m")
