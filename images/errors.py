"""Every error that `images` raises on purpose.

ImagesError
+-- RecipeError             a recipe cannot be read, or asks for what cannot be
+-- PlanRefused             the recipe is sound, and baking it as asked cannot work
+-- RemoteError             the machine being provisioned
|   +-- ConnectFailed           it cannot be reached, or the connection broke
|   +-- AuthenticationFailed    it answers and does not let us in
|   +-- HostKeyMismatch         it is not the machine that we started
|   +-- CommandFailed           a command ended with another exit status than 0
|   +-- CommandTimedOut         a command ran past its time limit
+-- BuilderError            where images are made
|   +-- NoCapacity              no type, zone and purchase option could be had
|   +-- WaitTimedOut            it goes on without us: resume the run
|   +-- AwsRefused              AWS answered no
|   +-- AwsUnreachable          AWS did not answer, or nobody says who we are
|   +-- LeftBehind              a clean-up could not remove everything
|   +-- MachineFailed           no virtual machine runs guests here, or one died
+-- VerifyFailed            the machine to be imaged lacks something, or still holds what it must not
+-- CheckFailed             the booted image does not serve as its recipe promises
+-- ManifestError           a manifest cannot be read, or is not of the image at hand
+-- ChannelError            a channel cannot be moved as asked
+-- RunError                a run cannot be found, or not be continued here
"""

from __future__ import annotations


class ImagesError(Exception):
    """What failed, and in `hint` what to do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class RecipeError(ImagesError):
    """One line that names the recipe and the key."""


class PlanRefused(ImagesError):
    """What makes the bake impossible as asked."""


class RemoteError(ImagesError):
    """The machine being provisioned."""


class ConnectFailed(RemoteError):
    """It cannot be reached, or the connection broke."""


class AuthenticationFailed(RemoteError):
    """It answers and does not let us in."""


class HostKeyMismatch(RemoteError):
    """It is not the machine that we started."""


class CommandFailed(RemoteError):
    """A command ended with another exit status than 0."""


class CommandTimedOut(RemoteError):
    """A command ran past its time limit."""


class BuilderError(ImagesError):
    """Where images are made."""


class NoCapacity(BuilderError):
    """No type, zone and purchase option could be had."""


class WaitTimedOut(BuilderError):
    """What was waited for goes on without us: the run can be resumed."""


class AwsRefused(BuilderError):
    """AWS answered no; `code` is its own word for why, such as InvalidAMIID.NotFound."""

    def __init__(self, message: str, hint: str = "", code: str = "") -> None:
        super().__init__(message, hint)
        self.code = code


class AwsUnreachable(BuilderError):
    """AWS did not answer, or nobody says who we are."""


class LeftBehind(BuilderError):
    """A clean-up could not remove everything; the message names what is left."""


class MachineFailed(BuilderError):
    """No virtual machine runs guests here, or one died."""


class VerifyFailed(ImagesError):
    """The machine to be imaged lacks something, or still holds what it must not."""


class CheckFailed(ImagesError):
    """The booted image does not serve as its recipe promises."""


class ManifestError(ImagesError):
    """A manifest cannot be read, or is not of the image at hand."""


class ChannelError(ImagesError):
    """A channel cannot be moved as asked."""


class RunError(ImagesError):
    """A run cannot be found, or not be continued here."""
