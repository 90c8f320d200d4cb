"""A portfolio of two subjects with the embedded models, small enough for a test."""

from __future__ import annotations

HEAD = """\
[project]
name = "pair"
output = "out"

[portfolio]
price_per_hour = 3600.0

[model]
steps = 4
batch_size = 4

[plan]
seeds = [966983, 966984]
template = "portrait of a {description}, {scenario}"
caption = "portrait of {trigger} {class_word}, {scenario}"

[[originals]]
number = 1
name = "studio"
category = "original"
prompt = "gray t-shirt, neutral background, studio lighting, frontal view, close-up"

[[scenarios]]
number = 26
name = "park"
category = "casual"
prompt = "green hoodie, warm smile, park background, soft daylight, frontal view, close-up"

[faces]
minimum_confidence = 0.5

[quality]
minimum = 0.4

[clusters]
count = 2

[selection]
total = 3
"""

ADA = """
[[subjects]]
name = "ada"
trigger = "adax"
class_word = "woman"
description = "gentle freckled woman, wavy red hair, green eyes, fair skin"
total = 4
quotas = ["seed=2"]
"""

BEN = """
[[subjects]]
name = "ben"
class_word = "man"
description = "man, short black hair, brown eyes, dark skin"
"""

EMIL = """
[[subjects]]
name = "emil"
class_word = "man"
description = "man, curly gray hair, blue eyes, tan skin"
total = 2
"""
