"""What the generated houses are made of: tables counted over ALFWorld's 3,553 training games (MIT), rounded.

Scenes 1-30 are kitchens, 201-230 living rooms, 301-330 bedrooms, 401-430 bathrooms. Type names are ALFRED's.
"""

from __future__ import annotations

from collections.abc import Mapping


def _table(text: str) -> dict[str, tuple[str, ...]]:
    """Reads `Key: word word ...` entries; an entry goes on until the next key."""
    table: dict[str, tuple[str, ...]] = {}
    for entry in text.replace("\n", " ").split(";"):
        if entry.strip():
            key, words = entry.split(":")
            table[key.strip()] = tuple(words.split())
    return table


def _shares(text: str) -> dict[str, dict[str, int]]:
    """Reads `Key: name number name number ...` entries."""
    return {key: dict(zip(words[::2], map(int, words[1::2]), strict=True)) for key, words in _table(text).items()}


RECEPTACLES: Mapping[str, Mapping[str, tuple[int, int, float]]] = {
    "kitchen": {
        "Cabinet": (1, 27, 14.0),
        "CoffeeMachine": (1, 1, 1.0),
        "CounterTop": (1, 4, 2.3),
        "DiningTable": (0, 3, 0.7),
        "Drawer": (1, 27, 5.9),
        "Fridge": (1, 1, 1.0),
        "GarbageCan": (1, 1, 1.0),
        "Microwave": (1, 1, 1.0),
        "Safe": (0, 1, 0.1),
        "Shelf": (0, 3, 0.4),
        "SideTable": (0, 1, 0.1),
        "SinkBasin": (1, 1, 1.0),
        "StoveBurner": (0, 6, 4.1),
        "Toaster": (0, 1, 1.0),
    },
    "bedroom": {
        "ArmChair": (0, 3, 0.3),
        "Bed": (1, 2, 1.1),
        "Cabinet": (0, 4, 0.4),
        "CounterTop": (0, 1, 0.1),
        "Desk": (1, 2, 0.7),
        "DiningTable": (0, 1, 0.1),
        "Drawer": (2, 17, 5.9),
        "Dresser": (0, 2, 0.6),
        "GarbageCan": (1, 1, 1.0),
        "LaundryHamper": (0, 1, 0.3),
        "Safe": (0, 1, 0.1),
        "Shelf": (0, 14, 3.1),
        "SideTable": (1, 2, 0.9),
    },
    "living": {
        "ArmChair": (1, 3, 1.3),
        "Cabinet": (0, 8, 0.5),
        "CoffeeTable": (1, 2, 1.0),
        "Desk": (0, 1, 0.1),
        "DiningTable": (0, 2, 0.6),
        "Drawer": (1, 21, 3.9),
        "Dresser": (0, 2, 0.4),
        "GarbageCan": (1, 1, 1.0),
        "Ottoman": (0, 1, 0.1),
        "Safe": (0, 1, 0.1),
        "Shelf": (0, 14, 2.4),
        "SideTable": (1, 5, 1.5),
        "Sofa": (1, 2, 1.2),
        "TVStand": (0, 2, 0.5),
    },
    "bathroom": {
        "BathtubBasin": (0, 1, 0.7),
        "Cabinet": (0, 9, 2.1),
        "Cart": (0, 1, 0.1),
        "CounterTop": (1, 2, 1.0),
        "Drawer": (0, 8, 2.5),
        "Dresser": (0, 1, 0.1),
        "GarbageCan": (1, 1, 1.0),
        "HandTowelHolder": (1, 4, 1.5),
        "Shelf": (0, 4, 0.5),
        "SideTable": (0, 1, 0.1),
        "SinkBasin": (1, 2, 1.5),
        "Toilet": (1, 1, 1.0),
        "ToiletPaperHanger": (1, 1, 1.0),
        "TowelHolder": (1, 2, 1.3),
    },
}
"""Room, receptacle type: least number here, most and mean number in ALFWorld."""

PLACES: Mapping[str, Mapping[str, Mapping[str, int]]] = {
    "kitchen": _shares(
        """
        Apple: CounterTop 25 Fridge 24 DiningTable 15 Microwave 13 GarbageCan 12 SinkBasin 9
            SideTable 2;
        Book: CounterTop 65 Cabinet 14 DiningTable 11 Drawer 5 Shelf 4;
        Bowl: Cabinet 36 CounterTop 21 Fridge 20 DiningTable 15 SinkBasin 3 Microwave 3 Shelf 2;
        Bread: CounterTop 55 DiningTable 31 Fridge 12;
        ButterKnife: CounterTop 59 DiningTable 27 Drawer 8 SinkBasin 5;
        CellPhone: Drawer 43 CounterTop 41 DiningTable 17;
        CreditCard: CounterTop 46 Drawer 37 Shelf 17;
        Cup: Cabinet 23 CounterTop 21 Fridge 21 DiningTable 15 SinkBasin 9 Microwave 7 SideTable 2
            Shelf 2;
        DishSponge: CounterTop 26 Cabinet 24 Drawer 21 DiningTable 13 SinkBasin 7 GarbageCan 5 Shelf
            3;
        Egg: Fridge 25 CounterTop 24 SinkBasin 13 GarbageCan 13 Microwave 12 DiningTable 12
            SideTable 2;
        Fork: CounterTop 44 DiningTable 24 Drawer 22 SinkBasin 9 SideTable 2;
        Glassbottle: Cabinet 33 CounterTop 29 DiningTable 15 SinkBasin 10 Fridge 10 Shelf 4;
        Kettle: StoveBurner 41 CounterTop 25 Cabinet 24 DiningTable 7 SinkBasin 2;
        Knife: CounterTop 48 DiningTable 25 Drawer 21 SinkBasin 5;
        Ladle: CounterTop 41 Cabinet 25 Drawer 17 DiningTable 14 SinkBasin 2;
        Lettuce: CounterTop 41 DiningTable 28 Fridge 23 SinkBasin 5 SideTable 2;
        Mug: CounterTop 28 CoffeeMachine 17 Cabinet 16 Fridge 14 DiningTable 10 Microwave 7
            SinkBasin 6;
        Pan: StoveBurner 52 CounterTop 33 Cabinet 7 DiningTable 4 Fridge 4;
        Pen: CounterTop 39 DiningTable 34 Drawer 21 GarbageCan 5;
        Pencil: Drawer 41 CounterTop 30 DiningTable 19 GarbageCan 10;
        PepperShaker: Cabinet 33 CounterTop 30 DiningTable 16 Drawer 15 Shelf 3 SideTable 2;
        Plate: Cabinet 40 CounterTop 30 DiningTable 16 Fridge 9 SinkBasin 2 Shelf 2;
        Pot: StoveBurner 73 CounterTop 14 Fridge 4 DiningTable 4 Cabinet 3;
        Potato: CounterTop 28 Fridge 26 DiningTable 17 SinkBasin 11 Microwave 10 GarbageCan 6;
        SaltShaker: CounterTop 32 Cabinet 32 DiningTable 18 Drawer 14 Shelf 3 SideTable 2;
        SoapBottle: CounterTop 32 Cabinet 31 DiningTable 21 GarbageCan 10 Shelf 3;
        Spatula: CounterTop 45 DiningTable 25 Drawer 21 SinkBasin 9;
        Spoon: CounterTop 38 Drawer 28 DiningTable 22 SinkBasin 11 SideTable 2;
        SprayBottle: Cabinet 33 CounterTop 33 DiningTable 22 GarbageCan 12;
        Statue: CounterTop 51 Shelf 44 DiningTable 5;
        Tomato: Fridge 33 CounterTop 30 DiningTable 20 GarbageCan 9 SinkBasin 7 SideTable 2;
        Vase: CounterTop 34 Shelf 32 Cabinet 31 DiningTable 3;
        WineBottle: CounterTop 37 Cabinet 25 DiningTable 24 GarbageCan 9 Shelf 3;
        """
    ),
    "bedroom": _shares(
        """
        AlarmClock: Desk 34 Shelf 21 SideTable 19 Dresser 17 DiningTable 7;
        Book: Bed 51 Desk 19 Drawer 12 Dresser 5 SideTable 4 Cabinet 3 DiningTable 2 ArmChair 2
            Shelf 2;
        Bowl: Desk 43 Shelf 30 Dresser 15 DiningTable 6 SideTable 4 CounterTop 2;
        CD: Drawer 29 Desk 20 Dresser 14 SideTable 13 GarbageCan 8 Shelf 8 DiningTable 6 Cabinet 2;
        CellPhone: Bed 29 Desk 18 Drawer 17 Dresser 10 SideTable 10 Shelf 8 DiningTable 3 ArmChair 3
            Safe 2;
        CreditCard: Drawer 29 Shelf 18 Desk 18 SideTable 16 Dresser 12 DiningTable 3 ArmChair 3;
        KeyChain: Drawer 27 Desk 18 SideTable 16 Shelf 16 Dresser 13 DiningTable 4 Safe 4 ArmChair
            3;
        Laptop: Bed 74 Desk 19 Dresser 4 DiningTable 2;
        Mug: Desk 36 Shelf 18 SideTable 16 Dresser 16 DiningTable 9 Cabinet 4;
        Pen: Desk 28 Drawer 18 Shelf 16 Dresser 15 SideTable 14 DiningTable 6 GarbageCan 2;
        Pencil: Desk 24 Drawer 18 SideTable 18 Shelf 17 Dresser 11 DiningTable 6 GarbageCan 5;
        Pillow: Bed 99;
        RemoteControl: Drawer 34 Desk 29 SideTable 15 CounterTop 8 ArmChair 6 DiningTable 4 Dresser
            2;
        Statue: Shelf 43 Dresser 27 Desk 26 SideTable 5;
        TissueBox: Desk 37 Drawer 26 DiningTable 15 Shelf 12 SideTable 9 Dresser 2;
        Vase: Shelf 45 Dresser 36 Desk 11 SideTable 9;
        Watch: Drawer 31 Shelf 20 DiningTable 16 Desk 15 Dresser 11 SideTable 6;
        """
    ),
    "living": _shares(
        """
        Book: CoffeeTable 29 Dresser 24 Sofa 17 ArmChair 11 DiningTable 9 SideTable 9;
        Box: DiningTable 26 Sofa 25 CoffeeTable 24 SideTable 8 Cabinet 5 Shelf 4 Dresser 4 ArmChair
            3;
        Candle: SideTable 44 CoffeeTable 30 DiningTable 21 Drawer 3 Dresser 2;
        CellPhone: Dresser 19 SideTable 17 CoffeeTable 17 Sofa 14 Drawer 13 DiningTable 9 ArmChair 4
            Ottoman 4 Shelf 2;
        CreditCard: Sofa 21 CoffeeTable 16 ArmChair 14 Drawer 14 SideTable 11 DiningTable 10 Dresser
            7 Shelf 6;
        KeyChain: CoffeeTable 22 SideTable 18 Drawer 17 Sofa 13 ArmChair 10 DiningTable 8 Dresser 6
            Shelf 5 Ottoman 2;
        Laptop: Sofa 29 CoffeeTable 26 DiningTable 22 Dresser 9 SideTable 8 ArmChair 5 Ottoman 2;
        Newspaper: Sofa 20 CoffeeTable 18 DiningTable 17 SideTable 14 Shelf 11 Dresser 8 ArmChair 7
            Drawer 2;
        Pen: CoffeeTable 36 Dresser 23 SideTable 22 Drawer 6 GarbageCan 4 Shelf 4 DiningTable 4;
        Pencil: SideTable 35 CoffeeTable 29 Drawer 11 Dresser 7 GarbageCan 7 Shelf 6 DiningTable 5;
        Pillow: Sofa 80 ArmChair 20;
        Plate: DiningTable 51 CoffeeTable 24 Shelf 13 SideTable 11;
        RemoteControl: CoffeeTable 26 Sofa 20 SideTable 14 DiningTable 12 Dresser 9 ArmChair 9
            Drawer 4 Shelf 4 Ottoman 2;
        Statue: CoffeeTable 28 Shelf 22 DiningTable 21 SideTable 20 Dresser 8;
        TissueBox: CoffeeTable 36 DiningTable 19 SideTable 19 Shelf 11 TVStand 8 Drawer 3 Dresser 2;
        Vase: Shelf 38 CoffeeTable 21 DiningTable 16 SideTable 12 Dresser 11 Cabinet 2;
        Watch: CoffeeTable 29 Drawer 23 SideTable 20 DiningTable 12 Dresser 12 Shelf 4;
        """
    ),
    "bathroom": _shares(
        """
        Candle: CounterTop 31 Toilet 30 Cabinet 13 Drawer 13 Shelf 7 SideTable 2 Cart 2;
        Cloth: BathtubBasin 30 Cabinet 20 CounterTop 17 Drawer 15 SinkBasin 8 Shelf 4 Toilet 3;
        DishSponge: CounterTop 20 Drawer 20 BathtubBasin 18 SinkBasin 10 Shelf 10 Toilet 8 Cabinet 5
            Cart 5 GarbageCan 4;
        HandTowel: HandTowelHolder 96 CounterTop 4;
        SoapBar: CounterTop 20 Toilet 16 SinkBasin 15 Cabinet 12 BathtubBasin 12 Drawer 11
            GarbageCan 7 Shelf 4 SideTable 2;
        SoapBottle: CounterTop 30 Toilet 24 Cabinet 21 Shelf 10 GarbageCan 9 Drawer 3;
        SprayBottle: CounterTop 32 Toilet 27 Cabinet 16 GarbageCan 10 Shelf 7 Cart 4 SideTable 3
            Dresser 2;
        TissueBox: CounterTop 36 Shelf 29 Drawer 20 Cabinet 5 Cart 4 SideTable 4 Toilet 3;
        ToiletPaper: Toilet 23 CounterTop 23 ToiletPaperHanger 12 Drawer 11 Cabinet 11 GarbageCan 9
            Shelf 5 Dresser 2 Cart 2;
        Towel: TowelHolder 100;
        """
    ),
}
"""Room, object type: where such objects lie, in percent (2 and more), if they can be put there."""

CAN_CONTAIN: Mapping[str, frozenset[str]] = {
    receptacle: frozenset(objects)
    for receptacle, objects in _table(
        """
        ArmChair: Book Box CellPhone Cloth CreditCard KeyChain Laptop Newspaper Pillow
            RemoteControl;
        BathtubBasin: Cloth DishSponge HandTowel SoapBar;
        Bed: BaseballBat BasketBall Book CellPhone Laptop Pillow TennisRacket;
        Cabinet: Book Bowl Box CD Candle Cloth Cup DishSponge Glassbottle HandTowel Kettle Ladle Mug
            Newspaper Pan PepperShaker Plate Plunger Pot SaltShaker SoapBar SoapBottle SprayBottle
            TissueBox ToiletPaper Vase WateringCan WineBottle;
        Cart: Candle Cloth DishSponge HandTowel Plunger SoapBar SoapBottle SprayBottle TissueBox
            ToiletPaper;
        CoffeeMachine: Mug;
        CoffeeTable: Book Bowl Box Candle CellPhone CreditCard KeyChain Laptop Newspaper Pen Pencil
            Plate RemoteControl Statue TissueBox Vase Watch WateringCan;
        CounterTop: AlarmClock Apple Book Bowl Bread ButterKnife CD Candle CellPhone Cloth
            CreditCard Cup DishSponge Egg Fork Glassbottle HandTowel Kettle KeyChain Knife Ladle
            Laptop Lettuce Mug Pan Pen Pencil PepperShaker Plate Pot Potato RemoteControl SaltShaker
            SoapBar SoapBottle Spatula Spoon SprayBottle Statue TissueBox ToiletPaper Tomato Vase
            WineBottle;
        Desk: AlarmClock BasketBall Book Bowl Box CD CellPhone Cloth CreditCard KeyChain Laptop Mug
            Pen Pencil RemoteControl Statue TennisRacket TissueBox Vase Watch WateringCan;
        DiningTable: AlarmClock Apple BaseballBat BasketBall Book Bowl Box Bread ButterKnife CD
            Candle CellPhone Cloth CreditCard Cup DishSponge Egg Fork Glassbottle Kettle KeyChain
            Knife Ladle Laptop Lettuce Mug Newspaper Pan Pen Pencil PepperShaker Plate Pot Potato
            RemoteControl SaltShaker SoapBottle Spatula Spoon SprayBottle Statue TennisRacket
            TissueBox Tomato Vase Watch WateringCan WineBottle;
        Drawer: Book ButterKnife CD Candle CellPhone Cloth CreditCard DishSponge Fork HandTowel
            KeyChain Knife Ladle Newspaper Pen Pencil PepperShaker RemoteControl SaltShaker SoapBar
            SoapBottle Spatula Spoon SprayBottle TissueBox ToiletPaper Watch WateringCan;
        Dresser: AlarmClock BasketBall Book Bowl Box CD Candle CellPhone Cloth CreditCard KeyChain
            Laptop Mug Newspaper Pen Pencil Plate RemoteControl SprayBottle Statue TennisRacket
            TissueBox ToiletPaper Vase Watch WateringCan;
        Fridge: Apple Bowl Bread Cup Egg Glassbottle Lettuce Mug Pan Plate Pot Potato Tomato
            WineBottle;
        GarbageCan: Apple Bread CD Cloth DishSponge Egg HandTowel Lettuce Newspaper Pen Pencil
            Potato SoapBar SoapBottle SprayBottle TissueBox ToiletPaper Tomato WineBottle;
        HandTowelHolder: HandTowel;
        LaundryHamper: Cloth;
        Microwave: Apple Bowl Bread Cup Egg Glassbottle Mug Plate Potato Tomato;
        Ottoman: Book Box CellPhone CreditCard KeyChain Laptop Newspaper Pillow RemoteControl;
        Safe: CD CellPhone CreditCard KeyChain Statue Vase;
        Shelf: AlarmClock Book Bowl Box CD Candle CellPhone Cloth CreditCard Cup DishSponge
            Glassbottle HandTowel Kettle KeyChain Mug Newspaper Pen Pencil PepperShaker Plate Pot
            RemoteControl SaltShaker SoapBar SoapBottle SprayBottle Statue TissueBox ToiletPaper
            Vase Watch WateringCan WineBottle;
        SideTable: AlarmClock Apple BaseballBat BasketBall Book Bowl Box Bread ButterKnife CD Candle
            CellPhone Cloth CreditCard Cup DishSponge Egg Fork HandTowel Kettle KeyChain Knife
            Laptop Lettuce Mug Newspaper Pan Pen Pencil PepperShaker Plate Pot Potato RemoteControl
            SaltShaker SoapBar SoapBottle Spatula Spoon SprayBottle Statue TennisRacket TissueBox
            ToiletPaper Tomato Vase Watch WateringCan WineBottle;
        SinkBasin: Apple Bowl ButterKnife Cloth Cup DishSponge Egg Fork Glassbottle HandTowel Kettle
            Knife Ladle Lettuce Mug Pan Plate Pot Potato SoapBar Spatula Spoon Tomato;
        Sofa: Book Box CellPhone CreditCard KeyChain Laptop Newspaper Pillow RemoteControl;
        StoveBurner: Kettle Pan Pot;
        TVStand: TissueBox;
        Toilet: Candle Cloth DishSponge HandTowel SoapBar SoapBottle SprayBottle TissueBox
            ToiletPaper;
        ToiletPaperHanger: ToiletPaper;
        TowelHolder: Towel;
        """
    ).items()
}
"""Receptacle type: object types that can be put there."""

OPENABLE = frozenset({"Cabinet", "Drawer", "Fridge", "Microwave", "Safe"})
"""Receptacle types that are closed at first."""

STAND_OPEN: Mapping[str, float] = {"Cabinet": 0.17, "Drawer": 0.16, "Safe": 0.17}
"""Receptacle type: share of those in ALFWorld that stand open and can be neither opened nor closed."""

TRAITS: Mapping[str, frozenset[str]] = {
    predicate: frozenset(objects)
    for predicate, objects in _table(
        """
        cleanable: Apple Bowl ButterKnife Cloth Cup DishSponge Egg Fork Kettle Knife Ladle Lettuce
            Mug Pan Plate Pot Potato SoapBar Spatula Spoon Tomato;
        heatable: Apple Bread Cup Egg Mug Plate Potato Tomato;
        coolable: Apple Bowl Bread Cup Egg Lettuce Mug Pan Plate Pot Potato Tomato WineBottle;
        sliceable: Apple Bread Egg Lettuce Potato Tomato;
        isReceptacleObject: Bowl Box Cup Mug Pan Plate Pot;
        """
    ).items()
}
"""Predicate of the domain: object types it holds of."""

LAMP_PLACES: Mapping[str, tuple[str, ...]] = {
    "bedroom": ("Desk", "SideTable"),
    "living": ("SideTable", "CoffeeTable"),
}
"""Rooms with a desk lamp, and where it stands."""

SCENE_SIZES: Mapping[str, tuple[int, ...]] = {
    room: tuple(map(int, sizes))
    for room, sizes in _table(
        """
        kitchen: 20 20 22 24 24 27 27 28 29 29 29 30 33 33 34 35 36 36 36 39 39 39 40 41 51 52 54;
        bedroom: 7 7 8 9 9 9 9 10 11 11 11 11 12 14 14 15 16 17 17 19 20 21 22 22 22 25 27;
        living: 6 8 8 8 9 9 11 11 12 12 12 13 13 14 14 14 15 15 16 16 16 16 18 20 22 31 35;
        bathroom: 10 10 10 10 11 11 12 12 13 13 13 14 14 14 14 15 15 16 16 16 17 17 17 18 18 19 21;
        """
    ).items()
}
"""Room: how many receptacles each of its scenes has."""

MEAN_RECEPTACLES = 23.5
"""Receptacles of a game, over all rooms."""

FULLNESS: Mapping[str, float] = {"kitchen": 1.43, "bedroom": 0.71, "living": 0.62, "bathroom": 0.49}
"""Room: its objects that can be picked up, against the mean over all games."""

PRESENT: Mapping[str, Mapping[str, int]] = _shares(
    """
    kitchen: SaltShaker 100 PepperShaker 100 Bowl 100 Bread 100 Pot 100 Pan 100 Cup 100 Spatula 100
        Apple 99 Tomato 99 SoapBottle 99 Egg 99 Potato 99 DishSponge 99 Spoon 99 Mug 98 Knife 98
        Fork 98 Lettuce 98 Plate 97 ButterKnife 95 Kettle 52 WineBottle 42 Ladle 35 Glassbottle 23
        Statue 15 Vase 15 Book 11 CellPhone 11 CreditCard 9 Pencil 7 SprayBottle 7 Pen 6;
    bedroom: CellPhone 100 Laptop 100 CreditCard 100 Pillow 100 Pen 100 Book 100 Pencil 100
        AlarmClock 99 KeyChain 98 CD 93 Mug 49 Bowl 45 Statue 15 TissueBox 14 RemoteControl 12
        Watch 7 Vase 6;
    living: Laptop 100 CreditCard 100 Pillow 100 RemoteControl 97 Statue 96 KeyChain 92 Box 86
        Newspaper 62 Watch 49 Vase 49 Plate 35 TissueBox 34 Book 26 CellPhone 21 Pen 20 Pencil 16
        Candle 9;
    bathroom: Towel 100 HandTowel 100 SprayBottle 100 Cloth 100 ToiletPaper 99 Candle 97 SoapBar 97
        SoapBottle 96 TissueBox 25 DishSponge 23;
    """
)
"""Room, object type: percent of games with such objects."""

INSTANCES: tuple[float, ...] = (0.44, 0.31, 0.25)
"""How often a room with objects of a type has one, two or three of them, if the task needs none."""

TASKS: Mapping[str, Mapping[str, int]] = _shares(
    """
    kitchen: pick_cool_then_place_in_recep 31 pick_clean_then_place_in_recep 30
        pick_heat_then_place_in_recep 27 pick_two_obj_and_place 7 pick_and_place_simple 5;
    bedroom: look_at_obj_in_light 35 pick_two_obj_and_place 33 pick_and_place_simple 32;
    living: pick_two_obj_and_place 45 pick_and_place_simple 44 look_at_obj_in_light 11;
    bathroom: pick_and_place_simple 41 pick_two_obj_and_place 36 pick_clean_then_place_in_recep 23;
    """
)
"""Room, task type: percent of its games."""

TARGETS: Mapping[str, Mapping[str, int]] = _shares(
    """
    kitchen: Mug 12 Cup 9 Potato 8 Egg 7 Tomato 7 Apple 7 Plate 5 Lettuce 5 Pan 5 Bowl 5 Pot 4
        Kettle 4 Bread 3 Ladle 2 Knife 2 Spatula 2 PepperShaker 2 ButterKnife 2 Spoon 2 WineBottle 2
        SaltShaker 2 Fork 1;
    bedroom: CellPhone 14 Book 13 CD 12 AlarmClock 11 Pencil 10 Pen 9 KeyChain 7 Pillow 6
        CreditCard 5 Laptop 4 Bowl 3 TissueBox 2 Mug 2 Watch 1 Statue 1;
    living: RemoteControl 15 Newspaper 14 CreditCard 12 KeyChain 9 Statue 7 Box 6 Pillow 6 Vase 5
        TissueBox 5 Book 5 Laptop 4 Watch 4 Plate 2 CellPhone 2;
    bathroom: SprayBottle 17 SoapBar 16 ToiletPaper 15 SoapBottle 15 Candle 13 Cloth 10 HandTowel 7
        DishSponge 5 TissueBox 2;
    """
)
"""Room, object type: percent of games about such objects."""

CLOSED_TARGETS = 0.3
"""Odds of a target that is at home in a closed receptacle, so that a sixth of the targets are in one, not a quarter."""

DESTINATIONS: Mapping[str, Mapping[str, int]] = _shares(
    """
    kitchen: DiningTable 15 CounterTop 14 Cabinet 12 Microwave 10 Fridge 10 CoffeeMachine 8
        GarbageCan 7 Shelf 7 SideTable 6 Drawer 5 StoveBurner 5;
    bedroom: Desk 23 Dresser 14 Shelf 13 SideTable 13 Bed 10 Drawer 10 DiningTable 5 Safe 4
        ArmChair 4 GarbageCan 2 Cabinet 1;
    living: ArmChair 28 Sofa 23 CoffeeTable 22 Ottoman 7 Dresser 5 SideTable 4 Drawer 3
        DiningTable 2 GarbageCan 2 Shelf 2;
    bathroom: Toilet 28 GarbageCan 16 Cabinet 13 Drawer 13 CounterTop 12 ToiletPaperHanger 7 Cart 6
        Shelf 3 SideTable 1 Dresser 1;
    """
)
"""Room, receptacle type: percent of games with such a destination, of those that have one."""

NEIGHBOURS: Mapping[str, Mapping[str, int]] = _shares(
    """
    StoveBurner: StoveBurner 221 Toaster 12 CounterTop 5 GarbageCan 8 Drawer 6;
    Drawer: Drawer 28 Dresser 44 Desk 30 SideTable 8 SinkBasin 4 Safe 14 Cabinet 2;
    Cabinet: Cabinet 10 GarbageCan 3 Shelf 2;
    CounterTop: Toaster 130 CoffeeMachine 99;
    Shelf: Shelf 20 TVStand 72;
    GarbageCan: TVStand 76 ToiletPaperHanger 26;
    HandTowelHolder: TowelHolder 21;
    DiningTable: DiningTable 22;
    """
)
"""Receptacle types: how many of a thousand such pairs in a room are reached from one spot."""
