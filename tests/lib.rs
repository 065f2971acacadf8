//! The tests of the whole: nothing but tests lives here.
