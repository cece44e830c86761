"""Japanese: content is read by character, grammar by phrases of hiragana and a few words of kanji."""

from __future__ import annotations

from ragsvc.answering.citations.judging.languages.language import Language

JAPANESE = Language(
    code="ja",
    function="",
    pronouns="これ それ あれ この その",
    prepositions="",
    coordinators="および または 及び 又は",
    negations="""ません ない なかった なし なく ずに まで_ない 不可 禁止 せず ざる 無し 不要""",
    conditions="""場合 なら れば たら 限り だけ のみ しか 以外 とき 時に 次第 条件 ただし 但し によって に応じ""",
    hedges="""という とされ と言 といわ らしい そうだ そうです 主張 噂 うわさ 撤回 予定 計画 検討 提案 かもしれ だろう でしょう 可能性
        見込 予想 予測 否定 ようだ ようです つもり 希望 要望 ？ ? か。 思わ 思う 期待 見通 申請中 避け 危険""",
    markers={
        "permit": "でき 出来 可能 てもよい でもよい ても構 許可 認め られます",
        "oblige": "なければな 必要 必須 義務 ねばな べき なくてはな 必ず",
        "advise": "推奨 お勧め おすすめ 望ましい",
        "all": "すべて 全て 全員 全部 いつも 常に 毎回 誰でも どなたでも",
        "some": "一部 多く ほとんど たいてい 通常 時々 まれ 主に",
        "least": "以上 少なくとも 最低", "most": "以下 最大 以内 上限 最高", "more": "超え 超 より多 を上回", "less": "未満 より少 を下回",
        "before": "まで", "after": "から 以降", "about": "約 およそ ほど 程度 くらい ぐらい",
        "first": "最初", "last": "最後",
    },
    numbers={},
    opposites=(
        ("開", "閉 休"), ("増 上", "減 下"), ("始", "終"), ("有", "無"), ("入", "出"), ("買", "売"), ("勝", "負"), ("右", "左"),
        ("熱 温", "冷 寒"), ("公", "私"), ("北", "南"), ("東", "西"), ("朝", "夕 夜 晩"), ("長", "短"), ("高", "低 安"), ("内", "外"),
        ("新", "旧"), ("月", "火 水 木 金 土"), ("火", "水 木 金 土"), ("水", "木 金 土"), ("木", "金 土"), ("金", "土"),
    ),
)  # fmt: skip
