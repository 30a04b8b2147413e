//! Nodes as real Debian userlands in namespaces of this machine.
