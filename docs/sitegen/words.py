"""The words of the pages that are made from the catalogue, in English and Korean, and usual ranges.

RANGES: of an optimizer's hyperparameters those that matter, and where they usually lie.
"""

from __future__ import annotations

from collections.abc import Callable

WORDS: dict[str, tuple[str, str]] = {
    "arguments": ("arguments", "인수"),
    "argument": ("argument", "인수"),
    "bytes": ("bytes, for n float32 parameters", "바이트(float32 매개변수 n개)"),
    "call": ("Call", "호출"),
    "needs": ("Needs", "필요한 것"),
    "state": ("State", "상태"),
    "good for": ("Good for", "잘 맞는 곳"),
    "not for": ("Not for", "쓰지 말아야 할 때"),
    "family": ("Family", "계열"),
    "grew out of": ("Grew out of", "바탕이 된 방법"),
    "led to": ("Led to", "여기서 나온 방법"),
    "source": ("Source", "출처"),
    "none": ("none in the catalogue", "카탈로그에는 없음"),
    "what matters": ("What matters", "중요한 하이퍼파라미터"),
    "usual range": ("usual range", "흔히 쓰는 범위"),
    "why": ("why", "이유"),
    "docstring": ("Docstring", "독스트링"),
    "docstring is English": (
        "", "코드에 적힌 설명을 그대로 옮긴 것으로, 영어입니다."
    ),
    "references": ("References", "참고 문헌"),
    "parity": ("Beside its references", "기준 구현과의 차이"),
    "parity means": (
        "The largest relative error of any parameter over 60 steps in float64, ours and that of optax 0.2.8, against "
        "recorded runs of PyTorch, optax itself, or the paper's algorithm written out in NumPy.",
        "float64로 60스텝을 돌려 PyTorch의 기록, optax 자체, 또는 논문의 알고리즘을 NumPy로 옮긴 것과 비교한 "
        "매개변수별 최대 상대 오차입니다. optax 0.2.8의 오차도 함께 적었습니다.",
    ),
    "reference": ("reference", "기준"),
    "variant": ("variant", "설정"),
    "error": ("error", "오차"),
    "optax's error": ("optax's error", "optax의 오차"),
    "is reference": ("the reference", "기준임"),
    "n/a": ("n/a", "해당 없음"),
    "results": ("On published problems", "공개된 문제에서의 결과"),
    "results mean": (
        "In float64 with default settings, as ``examples/benchmarks/published_sets.py`` recorded it.",
        "float64와 기본 설정으로 ``examples/benchmarks/published_sets.py``\\ 를 실행해 기록한 값입니다.",
    ),
    "problems": ("problems", "문제"),
    "ours": ("ours", "이 라이브러리"),
    "beside": ("beside", "비교 대상"),
    "methods": ("Methods", "방법"),
    "methods intro": (
        "The %d methods of the catalogue, by family. Each page has the equation, a picture of the path, the measured "
        "state, the difference from references, and what matters when it is tuned. Which one to take is said in "
        ":doc:`/which/optimizer` and :doc:`/which/solver`.",
        "카탈로그의 방법 %d개를 계열별로 모았습니다. 각 페이지에는 수식, 경로 그림, 실측한 상태 크기, 기준 구현과의 "
        "차이, 그리고 조정할 때 중요한 것이 있습니다. 무엇을 고를지는 :doc:`/which/optimizer`\\ 와 "
        ":doc:`/which/solver`\\ 에서 다룹니다.",
    ),
    "method": ("method", "방법"),
    "year": ("year", "연도"),
    "sentence": ("in a sentence", "한마디로"),
    "picture of": ("The path of %s on two landscapes", "두 함수에서 %s의 경로"),
    "picture shows": (
        "From the orange point; the green star is the minimum of the function.",
        "주황색 점에서 출발합니다. 초록색 별은 함수의 최소점입니다.",
    ),
    "long_valley": ("Left, a valley of condition number 20", "왼쪽(조건수 20인 골짜기)"),
    "rosenbrock": ("Right, Rosenbrock's function", "오른쪽(로젠브록 함수)"),
    "at rate": (" at the learning rate %s", ", 학습률 %s"),
    "in steps": ("%s: %d steps%s, to a value of %s.", "%s: %d스텝%s, 마지막 함수값 %s."),
    "best of grid": (
        "The rate is the best of sixteen from 0.0001 to 10.", "학습률은 0.0001부터 10까지 16개 가운데 가장 나은 값입니다."
    ),
    "constrained picture": (
        "The constraint is that the two coordinates add up to 0.3 at least.", "두 좌표의 합이 0.3 이상이라는 제약이 있습니다."
    ),
    "bounded picture": ("The second coordinate is bounded below by 0.2.", "둘째 좌표의 하한은 0.2입니다."),
    "projected picture": (
        "With the set, or the penalty, of the catalogue's example.", "카탈로그의 예에 나오는 집합 또는 벌점을 썼습니다."
    ),
    "MGH": ("Moré-Garbow-Hillstrom, {} instances, a known minimum reached", "모레-가보-힐스트롬 {}문제 중 알려진 최솟값 도달"),
    "MGH calls": ("the same, median number of calls of the function", "같은 문제에서 함수 호출 횟수의 중앙값"),
    "MGH squares": ("the same as sums of squares, reached", "같은 문제를 최소제곱으로, 도달"),
    "MGH squares calls": ("the same, median number of evaluations", "같은 문제에서 평가 횟수의 중앙값"),
    "far": ("{} of them from ten times the start", "그중 {}문제를 열 배 먼 출발점에서"),
    "NIST": ("NIST's {} regression problems, both starts, ten digits or more", "NIST 회귀 {}문제, 두 출발점 모두 열 자리 이상"),
    "lesson": ("Lesson", "수업"),
    "output": ("What it prints", "출력"),
    "program": ("The program", "프로그램"),
    "run it": ("Run it with", "실행 명령"),
    "gallery": ("Gallery", "갤러리"),
    "gallery intro": (
        "Each picture is drawn from runs of the library. ``python examples/gallery.py --out pictures`` writes them all.",
        "모든 그림은 라이브러리를 실제로 돌려 그린 것입니다. "
        "``python examples/gallery.py --out pictures --language ko``\\ 로 모두 만들 수 있습니다.",
    ),
}  # fmt: skip


def words(language: str) -> Callable[[str], str]:
    """A function from a key of WORDS to the words of a language."""
    i = ("en", "ko").index(language)
    return lambda key: WORDS[key][i]


Ranges = dict[str, list[tuple[str, str, str]]]

_RATE = ("``learning_rate``", "learning_rate")
_ADAM = [
    ("learning_rate", "1e-4 to 3e-3", "a warm-up over the first percent or so of the run lets it be larger"),
    ("b2", "0.95 to 0.999", "0.95 for large batches and transformers, 0.999 for noisy gradients"),
    ("eps", "1e-8", "larger, up to 1e-3, where gradients are nearly zero for long"),
]
_DECAY = ("weight_decay", "0.01 to 0.1", "times the learning rate a step; leave out norms and biases by mask")
_SGD = [
    ("learning_rate", "0.01 to 1", "the largest that does not diverge, then lowered by a schedule"),
    ("momentum", "0.9 to 0.99", "a velocity remembers about 1 / (1 - momentum) gradients"),
]
_MATRIX = [
    ("learning_rate", "0.001 to 0.05", "for matrices; what is no matrix has a rate of its own"),
    ("weight_decay", "0 to 0.1", "times the learning rate a step"),
]
_SHAMPOO = [
    ("learning_rate", "1e-4 to 3e-3", "as for Adam"),
    ("precondition_frequency", "1 to 20", "steps between two eigenbases: fewer are dearer and nearer to the paper"),
    ("max_precondition_dim", "1,000 to 10,000", "longer sides are left alone: memory grows with their square"),
]
_FREE = [("learning_rate", "1", "it finds its own; a factor between 0.5 and 2 at most, and a schedule that falls")]

RANGES: Ranges = {
    "*": [("learning_rate", "three powers of ten around the default", "nothing else matters as much: sweep it first")],
    "sgd": _SGD,
    "adam": _ADAM, "nadam": _ADAM, "adamax": _ADAM, "radam": _ADAM, "amsgrad": _ADAM, "yogi": _ADAM,
    "adabelief": _ADAM,
    "adamw": [*_ADAM, _DECAY], "nadamw": [*_ADAM, _DECAY], "adamaxw": [*_ADAM, _DECAY],
    "adamc": [*_ADAM, _DECAY, ("max_learning_rate", "the peak of the schedule", "the decay is measured by it")],
    "adan": [("learning_rate", "1e-3 to 1e-2", "five to ten times Adam's"), _DECAY],
    "adagrad": [("learning_rate", "0.01 to 1", "it only shrinks from there")],
    "rmsprop": [
        ("learning_rate", "1e-4 to 1e-2", "as for Adam"), ("decay", "0.9 to 0.99", "how long squares are remembered"),
    ],
    "adadelta": [("learning_rate", "1", "a factor; the steps have a scale of their own"), ("rho", "0.9 to 0.95", "memory")],
    "rprop": [("learning_rate", "0.001 to 0.1", "the first step; it grows by 1.2 and shrinks by 0.5 from there")],
    "lion": [
        ("learning_rate", "3e-5 to 3e-4", "a third to a tenth of AdamW's"),
        ("weight_decay", "0.1 to 1", "three to ten times AdamW's"),
    ],
    "sign_sgd": [("learning_rate", "1e-5 to 1e-3", "every parameter moves by it, each step")],
    "signum": [
        ("learning_rate", "1e-5 to 1e-3", "every parameter moves by it, each step"),
        ("beta", "0.9 to 0.99", "how many gradients vote on the sign"),
    ],
    "adafactor": [("learning_rate", "1e-3 to 1e-2", "relative to the size of the parameters")],
    "lamb": [("learning_rate", "1e-3 to 1e-2", "relative to the size of each layer; made for large batches"), _DECAY],
    "lars": [
        ("learning_rate", "0.1 to 10", "relative to the size of each layer; made for large batches"),
        ("trust_coefficient", "0.001", "the share of a layer's norm that a step may have"),
    ],
    "ademamix": [
        *_ADAM[:1], ("alpha", "2 to 10", "weight of the slow mean; warm it up by a schedule"),
        ("b3", "0.999 to 0.9999", "memory of the slow mean: a good part of the run"), _DECAY,
    ],
    "muon": _MATRIX, "normuon": _MATRIX, "adamuon": _MATRIX, "dion": _MATRIX, "scion": _MATRIX[:1],
    "aurora": _MATRIX, "dion2": _MATRIX, "spectral_sphere": _MATRIX[:1],
    "asgo": [*_ADAM[:1], *_SHAMPOO[1:2], _DECAY], "muown": [*_ADAM[:1], _DECAY],
    "polargrad": [("learning_rate", "0.01 to 10", "steps are as long as gradients: sweep it widely")],
    "shampoo": _SHAMPOO[:2], "soap": _SHAMPOO, "soap_muon": [*_MATRIX[:1], *_SHAMPOO[1:]], "kl_shampoo": _SHAMPOO, "kl_soap": _SHAMPOO, "splus": _SHAMPOO,
    "prodigy": _FREE, "dadapt_adamw": _FREE, "dog": _FREE, "dowg": _FREE, "cocob": _FREE,
    "galore": [*_ADAM[:1], ("rank", "64 to 512", "of the projection: memory and quality grow with it")],
    "apollo": [*_ADAM[:1], ("rank", "1 to 256", "of the random projection")],
}  # fmt: skip

_KO_ADAM = [
    ("learning_rate", "1e-4 ~ 3e-3", "학습의 첫 1퍼센트쯤을 워밍업하면 더 크게 잡을 수 있습니다"),
    ("b2", "0.95 ~ 0.999", "큰 배치와 트랜스포머는 0.95, 잡음이 많은 기울기는 0.999"),
    ("eps", "1e-8", "기울기가 오래 0에 가까우면 1e-3까지 키웁니다"),
]
_KO_DECAY = ("weight_decay", "0.01 ~ 0.1", "스텝마다 학습률을 곱해 줄입니다. 정규화 층과 편향은 mask로 뺍니다")
_KO_SGD = [
    ("learning_rate", "0.01 ~ 1", "발산하지 않는 가장 큰 값에서 시작해 스케줄로 낮춥니다"),
    ("momentum", "0.9 ~ 0.99", "속도는 최근 기울기 약 1 / (1 - momentum)개를 기억합니다"),
]
_KO_MATRIX = [
    ("learning_rate", "0.001 ~ 0.05", "행렬의 학습률입니다. 행렬이 아닌 것은 따로 둡니다"),
    ("weight_decay", "0 ~ 0.1", "스텝마다 학습률을 곱해 줄입니다"),
]
_KO_SHAMPOO = [
    ("learning_rate", "1e-4 ~ 3e-3", "Adam과 같습니다"),
    ("precondition_frequency", "1 ~ 20", "고유기저를 다시 구하는 간격이며, 짧을수록 비싸고 논문에 가깝습니다"),
    ("max_precondition_dim", "1,000 ~ 10,000", "더 긴 변은 그대로 둡니다. 메모리가 길이의 제곱으로 늘기 때문입니다"),
]
_KO_FREE = [("learning_rate", "1", "스스로 찾습니다. 0.5에서 2 사이의 배율과 줄어드는 스케줄이면 충분합니다")]

KOREAN_RANGES: Ranges = {
    "*": [("learning_rate", "기본값 앞뒤로 10의 세제곱 범위", "무엇보다 중요하므로 먼저 훑어봅니다")],
    "sgd": _KO_SGD,
    **dict.fromkeys(("adam", "nadam", "adamax", "radam", "amsgrad", "yogi", "adabelief"), _KO_ADAM),
    "adamw": [*_KO_ADAM, _KO_DECAY], "nadamw": [*_KO_ADAM, _KO_DECAY], "adamaxw": [*_KO_ADAM, _KO_DECAY],
    "adamc": [*_KO_ADAM, _KO_DECAY, ("max_learning_rate", "스케줄의 최댓값", "감쇠의 기준이 됩니다")],
    "adan": [("learning_rate", "1e-3 ~ 1e-2", "Adam의 다섯 배에서 열 배"), _KO_DECAY],
    "adagrad": [("learning_rate", "0.01 ~ 1", "여기서부터 줄어들기만 합니다")],
    "rmsprop": [("learning_rate", "1e-4 ~ 1e-2", "Adam과 같습니다"), ("decay", "0.9 ~ 0.99", "제곱을 기억하는 길이")],
    "adadelta": [("learning_rate", "1", "배율입니다. 스텝의 크기는 스스로 정합니다"), ("rho", "0.9 ~ 0.95", "기억하는 길이")],
    "rprop": [("learning_rate", "0.001 ~ 0.1", "첫 스텝이며, 여기서 1.2배씩 커지고 0.5배씩 작아집니다")],
    "lion": [
        ("learning_rate", "3e-5 ~ 3e-4", "AdamW의 3분의 1에서 10분의 1"),
        ("weight_decay", "0.1 ~ 1", "AdamW의 세 배에서 열 배"),
    ],
    "sign_sgd": [("learning_rate", "1e-5 ~ 1e-3", "모든 매개변수가 스텝마다 이만큼 움직입니다")],
    "signum": [
        ("learning_rate", "1e-5 ~ 1e-3", "모든 매개변수가 스텝마다 이만큼 움직입니다"),
        ("beta", "0.9 ~ 0.99", "부호를 정하는 데 참여하는 기울기의 수"),
    ],
    "adafactor": [("learning_rate", "1e-3 ~ 1e-2", "매개변수 크기에 대한 비율입니다")],
    "lamb": [("learning_rate", "1e-3 ~ 1e-2", "층마다 크기에 대한 비율이며, 큰 배치에 맞춥니다"), _KO_DECAY],
    "lars": [
        ("learning_rate", "0.1 ~ 10", "층마다 크기에 대한 비율이며, 큰 배치에 맞춥니다"),
        ("trust_coefficient", "0.001", "한 스텝이 층의 노름에서 차지할 수 있는 비율"),
    ],
    "ademamix": [
        *_KO_ADAM[:1], ("alpha", "2 ~ 10", "느린 평균의 무게. 스케줄로 천천히 올립니다"),
        ("b3", "0.999 ~ 0.9999", "느린 평균이 기억하는 길이. 학습의 상당 부분입니다"), _KO_DECAY,
    ],
    **dict.fromkeys(("muon", "normuon", "adamuon", "dion", "aurora", "dion2"), _KO_MATRIX),
    **dict.fromkeys(("scion", "spectral_sphere"), _KO_MATRIX[:1]),
    "asgo": [*_KO_ADAM[:1], *_KO_SHAMPOO[1:2], _KO_DECAY], "muown": [*_KO_ADAM[:1], _KO_DECAY],
    "polargrad": [("learning_rate", "0.01 ~ 10", "스텝의 길이가 기울기를 따르므로 넓게 훑어봅니다")],
    **dict.fromkeys(("soap", "kl_shampoo", "kl_soap", "splus"), _KO_SHAMPOO), "shampoo": _KO_SHAMPOO[:2],
    **dict.fromkeys(("prodigy", "dadapt_adamw", "dog", "dowg", "cocob"), _KO_FREE),
    "soap_muon": [*_KO_MATRIX[:1], *_KO_SHAMPOO[1:]],
    "galore": [*_KO_ADAM[:1], ("rank", "64 ~ 512", "사영의 차원. 메모리와 품질이 함께 늡니다")],
    "apollo": [*_KO_ADAM[:1], ("rank", "1 ~ 256", "무작위 사영의 차원")],
}  # fmt: skip
