"""Resolution of environment strings: a Gymnasium id, or a name inside a Python module.

Two spellings with a colon are in use and both are understood: Gymnasium's ``"module:EnvId-v0"`` (import the module,
which registers the id) and the entry-point spelling ``"package.module:ClassName"`` (import the module, take the class
or factory function from it).
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import itertools
import pickle
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NoReturn

import cloudpickle
import gymnasium as gym

_ATARI_GAMES = """
    Adventure AirRaid Alien Amidar Assault Asterix Asteroids Atlantis Atlantis2 Backgammon BankHeist BasicMath
    BattleZone BeamRider Berzerk Blackjack Bowling Boxing Breakout Carnival Casino Centipede ChopperCommand
    CrazyClimber Crossbow Darkchambers Defender DemonAttack DonkeyKong DoubleDunk Earthworld ElevatorAction Enduro
    Entombed Et FishingDerby FlagCapture Freeway Frogger Frostbite Galaxian Gopher Gravitar Hangman HauntedHouse
    Hero HumanCannonball IceHockey Jamesbond JourneyEscape Kaboom Kangaroo KeystoneKapers KingKong Klax Koolaid
    Krull KungFuMaster LaserGates LostLuggage MarioBros MiniatureGolf MontezumaRevenge MrDo MsPacman NameThisGame
    Othello Pacman Phoenix Pitfall Pitfall2 Pong Pooyan PrivateEye Qbert Riverraid RoadRunner Robotank Seaquest
    SirLancelot Skiing Solaris SpaceInvaders SpaceWar StarGunner Superman Surround Tennis Tetris TicTacToe3D
    TimePilot Trondead Turmoil Tutankham UpNDown Venture VideoCheckers VideoChess VideoCube VideoPinball WizardOfWor
    WordZapper YarsRevenge Zaxxon
"""
# The newest versions; alternatives in braces.
_ROBOTICS = """
    AdroitHand{Door,Hammer,Pen,Relocate}{,Sparse}-v1 Fetch{PickAndPlace,Push,Reach,Slide}{,Dense}-v4 FrankaKitchen-v1
    AntMaze_UMaze{,Dense}-v5 AntMaze_{Open,Medium,Large}{,_Diverse_G,_Diverse_GR}{,Dense}-v5
    PointMaze_UMaze{,Dense}-v3 PointMaze_{Open,Medium,Large}{,_Diverse_G,_Diverse_GR}{,Dense}-v3
    HandReach{,Dense}-v3 HandManipulate{Block,Egg,Pen}Full{,Dense}-v1
    HandManipulate{Block,Egg,Pen}{,_BooleanTouchSensors,_ContinuousTouchSensors}{,Dense}-v1
    HandManipulateBlockRotate{Parallel,XYZ,Z}{,_BooleanTouchSensors,_ContinuousTouchSensors}{,Dense}-v1
    HandManipulate{Egg,Pen}Rotate{,_BooleanTouchSensors,_ContinuousTouchSensors}{,Dense}-v1
"""
_MINIGRID = """
    MiniGrid-{BlockedUnlockPickup,DistShift1,DistShift2,FourRooms,LockedRoom,Playground,Unlock,UnlockPickup}-v0
    MiniGrid-{DoorKey,Dynamic-Obstacles,Empty}-{5x5,6x6,8x8,16x16}-v0
    MiniGrid-{Dynamic-Obstacles,Empty}-Random-{5x5,6x6}-v0
    MiniGrid-Fetch-{5x5-N2,6x6-N2,8x8-N3}-v0 MiniGrid-GoToDoor-{5x5,6x6,8x8}-v0 MiniGrid-GoToObject-{6x6,8x8}-N2-v0
    MiniGrid-KeyCorridor{S3R1,S3R2,S3R3,S4R3,S5R3,S6R3}-v0 MiniGrid-{Lava,Simple}Crossing{S9N1,S9N2,S9N3,S11N5}-v0
    MiniGrid-LavaGap{S5,S6,S7}-v0 MiniGrid-Memory{S7,S9,S11,S13,S13Random,S17Random}-v0
    MiniGrid-MultiRoom-{N2-S4-v0,N4-S5-v1,N6-v0} MiniGrid-ObstructedMaze-{1Dl,1Dlh,1Dlhb,2Dl,2Dlh}-v0
    MiniGrid-ObstructedMaze-{1Q,2Dlhb,2Q,Full}-v1 MiniGrid-PutNear-{6x6-N2,8x8-N3}-v0
    MiniGrid-RedBlueDoors-{6x6,8x8}-v0
"""


def _expand(patterns: str) -> tuple[str, ...]:
    """``"a{,b}c{d,e}"`` as ``acd ace abcd abce``."""
    parts = ([part.split(",") for part in re.split(r"[{}]", pattern)] for pattern in patterns.split())
    return tuple("".join(chosen) for alternatives in parts for chosen in itertools.product(*alternatives))


@dataclass(frozen=True)
class Family:
    """Environments that are registered when a package is imported, which one of our extras installs.

    Args:
        package: The package.
        extra: The extra.
        prefixes: Beginnings of all its ids, and of no others; empty if there are none.
        ids: Its ids, also known where the package is not installed; of the version that the extra installs.
        example: An environment in a file.
        kwargs: Keyword arguments that its environments need.
    """

    package: str
    extra: str
    prefixes: tuple[str, ...]
    ids: tuple[str, ...]
    example: str
    kwargs: str | None = None

    @property
    def installed(self) -> bool:
        """Whether the package can be imported."""
        return importlib.util.find_spec(self.package) is not None

    def register(self) -> None:
        """Import the package, so that `gym.make` knows its ids."""
        gym.register_envs(importlib.import_module(self.package))


FAMILIES = (
    Family(
        "ale_py",
        "atari",
        ("ALE/",),
        tuple(f"ALE/{game}-v5" for game in _ATARI_GAMES.split()),
        "ALE/Pong-v5",
    ),
    Family("minigrid", "minigrid", ("MiniGrid-", "BabyAI-"), _expand(_MINIGRID), "MiniGrid-Empty-5x5-v0"),
    Family("gymnasium_robotics", "robotics", (), _expand(_ROBOTICS), "FetchReach-v4"),
    Family(
        "metaworld",
        "metaworld",
        ("Meta-World/",),
        ("Meta-World/MT1",),
        "{id: push, make: Meta-World/MT1, kwargs: {env_name: push-v3}}",
        "{env_name: push-v3}",
    ),
)


#: Names, in lower case, that stand for several environments, and the functions that list these.
SUITES = {
    f"meta-world/{name}": f"rllib_multienv.tasks.meta_world:metaworld_{name}" for name in ("mt10", "mt25", "mt50")
}
#: Packages of PettingZoo's environments, and our extras that install what they need.
PETTINGZOO_EXTRAS = {
    "pettingzoo.classic": "classic",
    "pettingzoo.butterfly": "butterfly",
    "pettingzoo.sisl": "butterfly",
    "pettingzoo.atari": "atari_multi_agent",
    "mpe2": "mpe",
}


def nearest(name: str, candidates: Iterable[str], n: int = 3) -> list[str]:
    """The candidates that look most like `name`, best first; letter case does not matter."""
    by_lower: dict[str, str] = {}
    for candidate in candidates:
        by_lower.setdefault(candidate.lower(), candidate)
    return [by_lower[m] for m in difflib.get_close_matches(name.lower(), by_lower, n=n, cutoff=0.5)]


def did_you_mean(name: str, candidates: Iterable[str], n: int = 3) -> str:
    """``" Did you mean 'a' or 'b'?"`` for the nearest candidates, or an empty string."""
    return one_of(nearest(name, candidates, n))


def one_of(names: Iterable[str]) -> str:
    """``" Did you mean 'a' or 'b'?"``, or an empty string."""
    found = [repr(name) for name in names]
    if not found:
        return ""
    return f" Did you mean {' or '.join([', '.join(found[:-1]), found[-1]] if found[1:] else found)}?"


def nearest_env_ids(name: str, n: int = 5) -> list[str]:
    """At most `n` Gymnasium ids that are similar to a mistyped `name`, best first, also those of extras.

    Names are compared without their versions ("cartpole" is near "CartPole-v1" although a third of the letters
    differ); of one environment's versions the newest comes first.
    """
    stem = _stem(name)
    versions: dict[str, list[tuple[int, str]]] = {}
    for env_id in {*gym.registry, *(env_id for family in FAMILIES for env_id in family.ids)}:
        versions.setdefault(_stem(env_id), []).append((_version(env_id), env_id))
    found = [
        env_id
        for match in difflib.get_close_matches(stem, versions, n=n, cutoff=0.5)
        for _, env_id in sorted(versions[match], reverse=True)
    ]

    # A stem with many versions must not push every other candidate out of a short list.
    def age(env_id: str) -> int:
        return [other for _, other in sorted(versions[_stem(env_id)], reverse=True)].index(env_id)

    return sorted(found, key=age)[:n]


def _stem(env_id: str) -> str:
    return re.sub(r"-v\d+$", "", env_id).lower()


def _version(env_id: str) -> int:
    match = re.search(r"-v(\d+)$", env_id)
    return int(match[1]) if match else 0


def find_env(make: str) -> str | Callable[..., Any]:
    """Resolve an environment string.

    Args:
        make: ``"CartPole-v1"``, ``"module:EnvId-v0"``, ``"package.module:ClassName"``, or a module that makes a
            PettingZoo environment, such as ``"pettingzoo.classic.connect_four_v3"``.

    Returns:
        A Gymnasium id that `gym.make` knows now, or the class or function that the string names.

    Raises:
        ValueError: Nothing of that name exists; the message offers the nearest names.
        ModuleNotFoundError: The module before the colon cannot be imported.
    """
    module_name, _, name = make.rpartition(":")
    if not module_name:
        if _is_registered(make):
            return make
        return _pettingzoo_maker(make) or _unknown(make)

    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"Environment {make!r}: cannot import {module_name!r} ({error}). "
            "Is the package installed, and the folder on PYTHONPATH?"
        ) from error
    if _is_registered(name):
        return name
    found = getattr(module, name, None)
    if callable(found):
        return found
    public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
    hint = did_you_mean(name, public) or did_you_mean(name, gym.registry)
    raise ValueError(
        f"Environment {make!r}: module {module_name!r} neither registers a Gymnasium id {name!r} nor holds a "
        f"class or function of that name.{hint}"
    )


def _pettingzoo_maker(module_name: str) -> Callable[..., Any] | None:
    """The function of a PettingZoo module that makes its environment; None if this is no such name.

    Raises:
        ValueError: The module, or a package that it needs, does not exist.
    """
    if not re.fullmatch(r"\w+(\.\w+)+", module_name):
        return None
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        if not module_name.startswith(tuple(f"{package}." for package in PETTINGZOO_EXTRAS)):
            return None
        family = next(name for name in PETTINGZOO_EXTRAS if module_name.startswith(f"{name}."))
        known = [f"{family}.{name}" for name in _modules_of(family)]
        if known and module_name not in known:
            raise ValueError(f"There is no environment {module_name!r}.{did_you_mean(module_name, known)}") from error
        raise ValueError(
            f"Environment {module_name!r} needs a package that is not installed ({error}): "
            f"pip install 'rllib-multienv[{PETTINGZOO_EXTRAS[family]}]'."
        ) from error
    # Agents that can act at once do: each time step is then an experience of all.
    return getattr(module, "parallel_env", None) or getattr(module, "env", None)


def pettingzoo_modules() -> dict[str, str]:
    """Modules that make PettingZoo's environments, of the packages that are installed, and the extra of each."""
    return {f"{package}.{name}": extra for package, extra in PETTINGZOO_EXTRAS.items() for name in _modules_of(package)}


def _modules_of(package: str) -> list[str]:
    """Names of the environments of a PettingZoo package; empty if it is not installed."""
    try:
        found = importlib.util.find_spec(package)
    except ImportError:
        return []
    paths = found.submodule_search_locations if found else None
    return [m.name for m in pkgutil.iter_modules(paths or []) if re.search(r"_v\d+$", m.name)]


def _unknown(make: str) -> NoReturn:
    raise ValueError(_unknown_id_message(make))


def registrations(env_id: str) -> bytes:
    """This process's Gymnasium registrations of an id, or of all versions of a name, for processes that lack them.

    Empty where importing a package or module registers the id.
    """
    if ":" in env_id or any(_belongs(env_id, family) for family in FAMILIES if family.prefixes):
        return b""
    found = []
    for spec in gym.registry.values():
        if env_id in (spec.id, spec.id.removesuffix(f"-v{spec.version}")):
            if isinstance(spec.entry_point, str) and spec.entry_point.startswith("__main__:"):
                name = spec.entry_point.removeprefix("__main__:")  # this script, which is no module elsewhere
                spec = replace(spec, entry_point=getattr(sys.modules["__main__"], name, spec.entry_point))
            found.append(spec)
    return cloudpickle.dumps(found)


def register_missing(registered: bytes) -> None:
    """Register in this process what :func:`registrations` returned in another."""
    for spec in pickle.loads(registered) if registered else ():
        gym.registry.setdefault(spec.id, spec)


def _is_registered(env_id: str) -> bool:
    """Whether `gym.make(env_id)` will find it, after the import of its provider if that is known."""
    if env_id in gym.registry:
        return True
    if _is_unversioned_name(env_id):
        return True
    for family in FAMILIES:
        if _belongs(env_id, family) and family.installed:
            family.register()
            if env_id in gym.registry:
                return True
    return False


def _belongs(env_id: str, family: Family) -> bool:
    return env_id.startswith(family.prefixes) if family.prefixes else "/" not in env_id


def _is_unversioned_name(env_id: str) -> bool:
    """Whether it is a name like ``"CartPole"``, for which Gymnasium takes the newest version."""
    return any(s.version is not None and env_id == s.id.removesuffix(f"-v{s.version}") for s in gym.registry.values())


def _unknown_id_message(env_id: str) -> str:
    message = f"There is no environment {env_id!r} in Gymnasium's registry."
    for family in FAMILIES:
        wanted = env_id in family.ids or env_id.startswith(family.prefixes)
        if wanted and not family.installed:
            return (
                f"{message} It comes with the package {family.package!r}, which is not installed: "
                f"pip install 'rllib-multienv[{family.extra}]'."
            )
    found = nearest_env_ids(env_id)
    if found:
        message += f" The nearest names are {', '.join(map(repr, found))}."
    return (
        f'{message} An environment of your own is named by "your_module:YourEnv", by EnvSpec("a-name", '
        "make=YourEnv), or by its id after gymnasium.register(...)."
    )


def envpool_is_installed() -> bool:
    """Whether the package envpool can be imported."""
    return importlib.util.find_spec("envpool") is not None


@cache
def _envpool_ids() -> frozenset[str]:
    import envpool

    return frozenset(envpool.list_all_envs())


def check_envpool_id(env_id: str, make: str) -> None:
    """Check that EnvPool is installed and has the environment `make`; the error names `env_id`.

    Raises:
        ValueError: EnvPool is not installed, or does not have the environment (the nearest are named).
    """
    if not envpool_is_installed():
        raise ValueError(
            f"Environment {env_id!r} asks for backend='envpool', but EnvPool is not installed: "
            "pip install 'rllib_multienv[envpool]', or use backend='sync'."
        )
    if make not in _envpool_ids():
        raise ValueError(f"Environment {env_id!r}: EnvPool has no {make!r}.{did_you_mean(make, _envpool_ids())}")
