//! The decisions about checkpoints, commits and fencing, in a world where everything comes late, twice or never.

mod damage;
mod exhaustive;
mod random;
mod world;
