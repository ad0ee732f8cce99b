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
    """Base of all errors that d2skill raises on purpose."""


class ConfigError(D2SkillError):
    """A setting is unknown, out of range or contradicts another."""


class DataError(D2SkillError):
    """Data of an environment is missing, broken or of another kind."""


class RunError(D2SkillError):
    """A run folder or checkpoint is missing, in the way or of another version."""


class BankError(D2SkillError):
    """A bank file is damaged or was made with another embedder."""


class EnvironmentFault(D2SkillError):
    """An environment failed while an episode was played; the fault is recorded on that episode."""


class ReflectionFault(D2SkillError):
    """A reflector could not answer; the fault is counted and no skill is written."""


class EndpointFault(D2SkillError):
    """A model behind a server gave no answer, after all retries; the caller records it."""
