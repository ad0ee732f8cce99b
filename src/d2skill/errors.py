"""The error tree.

    D2SkillError            everything below; the command line prints it as one sentence and exits with status 2
    ├── ConfigError         a setting that is unknown, out of range or contradicts another
    ├── DataError           files of an environment that are missing, broken or of another kind
    ├── RunError            a run folder or checkpoint that is missing, in the way or of another version
    ├── BankError           a bank file that is damaged or made with another embedder
    ├── EnvironmentFault    an environment that failed while it was played; recorded on its episode
    ├── ReflectionFault     a reflector that failed; recorded, and no skill is written
    └── EndpointFault       a model behind a server that gave no answer; recorded by the caller

Every message names the thing, the value and the way out. A programming error is none of these and propagates.
"""


class D2SkillError(Exception):
    """Base of all errors that d2skill raises on purpose.

    >>> import d2skill
    >>> try:
    ...     d2skill.load_config("latop")
    ... except d2skill.D2SkillError as error:
    ...     print(type(error).__name__)
    ConfigError
    """


class ConfigError(D2SkillError):
    """A setting is unknown, out of range or contradicts another.

    >>> import d2skill
    >>> d2skill.load_config("laptop", rollout={"tasks": 0})
    Traceback (most recent call last):
    d2skill.errors.ConfigError: rollout.tasks = 0: input should be greater than or equal to 1
    """


class DataError(D2SkillError):
    """Data of an environment is missing, broken or of another kind.

    >>> from d2skill import DataError
    >>> raise DataError("games/game.tw-pddl is damaged")
    Traceback (most recent call last):
    d2skill.errors.DataError: games/game.tw-pddl is damaged
    """


class RunError(D2SkillError):
    """A run folder or checkpoint is missing, in the way or of another version.

    >>> import d2skill
    >>> d2skill.Run.open("nowhere")
    Traceback (most recent call last):
    d2skill.errors.RunError: nowhere is not a run folder: it has no config.toml
    """


class BankError(D2SkillError):
    """A bank file is damaged or was made with another embedder.

    >>> import d2skill
    >>> d2skill.SkillBank.open("nowhere.db")
    Traceback (most recent call last):
    d2skill.errors.BankError: ...
    """


class EnvironmentFault(D2SkillError):
    """An environment failed while an episode was played; the fault is recorded on that episode.

    >>> from d2skill import EnvironmentFault
    >>> raise EnvironmentFault("the simulator is gone")
    Traceback (most recent call last):
    d2skill.errors.EnvironmentFault: the simulator is gone
    """


class ReflectionFault(D2SkillError):
    """A reflector could not answer; the fault is counted and no skill is written.

    >>> from d2skill import ReflectionFault
    >>> raise ReflectionFault("the answer was empty")
    Traceback (most recent call last):
    d2skill.errors.ReflectionFault: the answer was empty
    """


class EndpointFault(D2SkillError):
    """A model behind a server gave no answer, after all retries; the caller records it.

    >>> from d2skill import EndpointFault
    >>> raise EndpointFault("http://localhost:8000/v1 hung up 5 times")
    Traceback (most recent call last):
    d2skill.errors.EndpointFault: http://localhost:8000/v1 hung up 5 times
    """
