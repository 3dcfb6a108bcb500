"""From AITER's HIP sources to what a launch plan needs: its host code as a shared library, and one kernel's code object at a time.

`source.source(where, name)` says what is compiled, `frontend.front_end(source, arch, root)` runs the compiler's front end once
(seconds; kept in the cache), `device.code_object(bitcode, symbol, arch)` compiles one kernel of it (a fraction of a second).
`compilers.find()` is the compiler that both use.

The host library leaves HIP's API undefined (``hipLaunchKernel``, ``__hipRegisterFunction``, ...), and of ours
``jax_aiter_refuse`` and ``jax_aiter_scratch``: whoever loads it provides a recording one first. Its functions are AITER's own,
under their C++ names. Those of releases that take ``torch::Tensor`` take the stand-in of ``include/torch``, which has the
layout of AITER's later ``aiter_tensor_t``; `source.Source.tensor` says which of the two.
"""
