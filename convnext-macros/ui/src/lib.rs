//! The tests of what the compiler says. They are not tests of `convnext-macros`: all that a macro's tests depend on is compiled
//! twice, for the compiler and for programs.
