//! The sandbox against guests that do what they should not, and one that does what it should.

mod loading;
mod replies;
mod running;
mod support;
