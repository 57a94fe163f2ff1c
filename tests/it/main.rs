//! Tests of the whole, in one binary: a file for each subject.

mod auth;
mod bad_input;
mod check;
mod conformance;
mod ecr;
mod ecr_whole;
mod engine;
mod harbor;
mod harness;
mod layers;
mod ministack;
mod network;
mod output;
mod plan;
mod platforms;
mod real;
mod requests;
mod robust;
mod secrets;
mod serve;
mod services;
mod strangers;
mod support;
mod sync;
mod verbs;
mod verify;
