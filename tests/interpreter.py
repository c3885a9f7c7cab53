"""Triton's interpreter, without what takes most of its time."""

from __future__ import annotations

import dataclasses
import functools
import inspect


def remembered(function, key):
    """Call a function once for each key of its arguments."""
    results = {}

    def remember(*arguments):
        known = key(*arguments)
        if known not in results:
            results[known] = function(*arguments)
        return results[known]

    return remember


def leave_out_repetition() -> None:
    """Let the interpreter do once a launch what it does at every call, and nothing for nothing.

    It takes a third of its time to look through all of the language for what is to be replaced, and
    again to compute in 64 bits whether integers overflow, which it says in debug mode alone. Of the
    rest, it takes a third to describe types anew, which never change.
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
    patch_tensor = interpreter._patch_lang_tensor

    def patch_tensor_and_index(tensor, scope):
        patch_tensor(tensor, scope)
        # Triton before 3.9 asks for the int of an array, which NumPy 2.4 refuses.
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.squeeze()))

    interpreter._patch_lang_tensor = patch_tensor_and_index
    interpreter._get_np_dtype = remembered(interpreter._get_np_dtype, lambda kind: kind.name)
    tl.core.block_type.with_element_ty = remembered(
        tl.core.block_type.with_element_ty, lambda block, element: (block.name, element.name)
    )
    interpreter.InterpreterBuilder.get_block_ty = remembered(
        interpreter.InterpreterBuilder.get_block_ty,
        lambda builder, element, shape: (element.name, *shape),
    )
    describe = tl.core.tensor.__init__

    def describe_once(self, handle, kind):
        try:
            self.shape, self.numel, self.dtype = kind.described
        except AttributeError:
            describe(self, handle, kind)
            kind.described = self.shape, self.numel, self.dtype
        self.handle, self.type = handle, kind

    tl.core.tensor.__init__ = describe_once
    broadcast = interpreter.interpreter_semantic.broadcast_impl_value

    def broadcast_unless_alike(lhs, rhs):
        # Shapes are those of types, of which there is one each.
        return (lhs, rhs) if lhs.shape is rhs.shape else broadcast(lhs, rhs)

    interpreter.interpreter_semantic.broadcast_impl_value = broadcast_unless_alike
