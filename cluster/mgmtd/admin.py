"""What an operator can ask of mgmtd: the operations of `MgmtdClient.admin`, and what they answer.

    operation        parameters                                  answer
    ---------------  ------------------------------------------  -----------------------------------
    status           -                                           see below
    create_chains    replicas=3 spares=0 slots=1024 seed=1       chains, spares, slot_table
                     capacities by the targets registered
    drain_node       node                                        replacements: [{chain, leaves, joins}]
    resume_node      node                                        replacements that were given up
    remove_node      node                                        -  (it is down and has no chain)
    replace_target   target, by=ID (best spare unless given)     chain, leaves, joins
    remove_target    target, drop=False (drop: no replacement)   chain; or the spare is forgotten
    rebalance        apply=False                                 replacements, formed, slot_moves
    slot_plan        slot_table=1                                slot_moves: [{slot, from, to}]
    ns_list          -                                           namespaces: [policy]
    ns_create        name + any of a policy's fields             namespace: policy
    ns_set           name + any of a policy's fields             namespace: policy

A policy's fields: name, replicas, durability ("memory", "disk", "sync"), eviction ("none",
"cache"), ttl_ms, size_max, objects_max. Operations are done when they are stored; what takes time
(replacements) goes on afterwards, and shows in `status`.

    status: {
      cluster: uuid text, epoch, primary: "host:port", routing_version,
      terms: {heartbeat_ms, lease_ms, drift_ms_max}, replicas (0: no chains yet), expected_targets,
      nodes: [{id, kind, state, addresses, rack, incarnation, connected, lease_ms (what is left; 0:
          none), silent_ms, suspicions, targets: [id]}],
      targets: [{id, node, disk, capacity_bytes, used_bytes, free_bytes, objects, chain (None: spare),
          state ("serving", "lastsrv", "syncing", "waiting", "offline", "spare"), local, error,
          chain_version, resync_done, resync_total, retiring, joins (who replaces it, or None)}],
      chains: [{id, version, wanted, slots, targets: [{target, node, state}]}],
      slot_tables: [{id, slots}], namespaces: [policy],
      problems: [text]                         what an operator should look at; empty: all is well
    }
"""
