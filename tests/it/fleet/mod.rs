//! Many replicas: the seam under one suite for both implementations, what only the one over Redis can get wrong, and whole
//! proxies on it.

mod calls;
mod member;
mod outages;
mod posts;
mod relay;
mod replicas;
mod seam;
mod trust;
mod upgrade;
