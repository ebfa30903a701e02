//! `metacluster epmd` held against the stock epmd: every request, well-formed or not, and every command line is given to
//! both, and bytes, texts and exit codes have to be the same. Then what real nodes do with it, and its bounds.

mod beam;
mod bounds;
mod command_line;
mod daemon;
mod rabbitmq;
mod requests;
mod servers;
