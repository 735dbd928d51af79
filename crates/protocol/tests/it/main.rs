//! Tests of the wire types: the document's vectors, round trips, hostile input, identifiers, sizes,
//! secrets, and the seed of all property tests.

#[cfg(test)]
mod forward;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod ids;
#[cfg(test)]
mod roundtrip;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod seeds;
#[cfg(test)]
mod sizes;
#[cfg(test)]
mod support;
#[cfg(test)]
mod vectors;
#[cfg(test)]
mod wire;
