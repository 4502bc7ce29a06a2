"""Control messages between processes: msgpack over TCP, proven by a shared secret."""
