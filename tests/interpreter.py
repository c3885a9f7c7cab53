"""Triton's interpreter, without what takes most of its time."""

from __future__ import annotations

import dataclasses
import functools
import inspect


def leave_out_repetition() -> None:
    """Let the interpreter do once a launch what it does at every call, and nothing for nothing.

    It takes a third of its time to look through all of the language for what is to be replaced, and
    again to compute in 64 bits whether integers overflow, which it says in debug mode alone.
    """
    import triton.language as tl
    from triton.runtime import interpreter

    options = interpreter.interpreter_builder.options
    overflow = options.sanitize_overflow and options.debug
    interpreter.interpreter_builder.options = dataclasses.replace(
        options, sanitize_overflow=overflow
    )
    patch_lang = interpreter._patch_lang

    @functools.cache
    def languages(fn):
        modules = filter(inspect.ismodule, fn.__globals__.values())
        return [module for module in modules if module in (tl, tl.core)]

    def patch_unless_patched(fn):
        if any(tl.core.is_builtin(language.load) for language in languages(fn)):
            return patch_lang(fn)
        return interpreter._LangPatchScope()

    interpreter._patch_lang = patch_unless_patched
