------------------------------- MODULE Chain -------------------------------
(* One key of one chain: clients, targets, mgmtd, and whatever may go wrong between them.

   The rules are those of native/protocol/replica.h (turns, forwards, acknowledgements, careful
   updates, changes of the chain), native/protocol/channel.h (exactly once), the reads of
   native/node/chain_read.c, the resync of native/node/resync.c, cluster/transitions.py and
   cluster/leases.py. Names are theirs where they exist there.

   What is modelled: messages of lost connections that arrive late or never; processes that are
   killed and start again with what they had applied; leases that run out; updates that wait, that
   are being applied and that are applied; repeated updates; records that are lost; resync by
   comparison. What is not: batches, several keys, deletes by clients, time.

   `Mutant` names one rule that is left out; "none" is the protocol.                             *)
EXTENDS Integers, Sequences, FiniteSets, TLC

CONSTANTS TargetCount,
          ServingCount,  \* so many serve at the beginning; the others are back, and behind
          WriteCount, ReadCount,
          SendsMax,      \* how often a client sends an update
          CrashesMax, LapsesMax, StartsMax, SyncsMax, SeversMax,
          CarefulToo,    \* heads may choose careful updates, and successors refuse these
          Mutant

VARIABLES man,    \* what mgmtd publishes: [cv, serving, last, sync]
          tg,     \* each target
          msgs,   \* messages under way; each may arrive at any time, or never
          wr,     \* each client's one update: [sent, over, ver]
          rd,     \* the one reader: [at, step, fit, value]
          lin,    \* the orders that explain everything that was answered so far
          floor,  \* the highest version that was acknowledged
          broken, \* "bound": a target refused what it had to apply; "twice": an update took effect twice
          left    \* faults, and reads, that may still come
vars == <<man, tg, msgs, wr, rd, lin, floor, broken, left>>

Targets == 1..TargetCount
Writes == 1..WriteCount
Nobody == 0
Nothing == 0                       \* the value of a key that is absent
M(name) == Mutant = name
Range(s) == {s[i] : i \in 1..Len(s)}
Without(s, n) == SelectSeq(s, LAMBDA x : x # n)
Max(a, b) == IF a > b THEN a ELSE b

(* ---- places in the chain, as in kv_replica_view ---- *)

NoView == [cv |-> 0, serving |-> <<>>, sync |-> Nobody]
Serves(v, n) == n \in Range(v.serving)
Syncs(v, n) == v.sync = n
TakesPart(v, n) == Serves(v, n) \/ Syncs(v, n)
IsHead(v, n) == v.serving # <<>> /\ v.serving[1] = n
Place(v, n) == CHOOSE i \in 1..Len(v.serving) : v.serving[i] = n
Succ(v, n) == IF ~Serves(v, n) THEN Nobody
              ELSE IF Place(v, n) < Len(v.serving) THEN v.serving[Place(v, n) + 1]
              ELSE v.sync
Feeds(v, n) == Succ(v, n) # Nobody /\ Succ(v, n) = v.sync
Published == [cv |-> man.cv, serving |-> man.serving, sync |-> man.sync]
Version(cv, sequence) == cv * 8 + sequence

(* ---- targets ---- *)

NoRun == [src |-> "none"]
NoResync == [step |-> "ask", old |-> FALSE]
Idle(n) == tg[n].run = NoRun

NewProcess(t) ==
    [t EXCEPT !.lease = FALSE, !.view = NoView, !.queue = <<>>, !.run = NoRun,
              !.rec = [w \in Writes |-> "none"], !.forgetful = TRUE,
              !.attempt = 0, !.heard = 0, !.sequence = 0, !.resync = NoResync]

Init ==
    LET all == [i \in 1..ServingCount |-> i]
        view == [cv |-> 1, serving |-> all, sync |-> Nobody]
    IN  /\ man = [cv |-> 1, serving |-> all, sync |-> Nobody, last |-> <<>>]
        /\ tg = [n \in Targets |->
                   [up |-> TRUE, lease |-> TRUE, fenced |-> FALSE, view |-> view,
                    ver |-> 0, val |-> Nothing,      \* the object that is applied, and durable
                    queue |-> <<>>, run |-> NoRun,
                    rec |-> [w \in Writes |-> "none"], forgetful |-> n > ServingCount,
                    attempt |-> 0, heard |-> 0, sequence |-> 0, uptodate |-> 0,
                    resync |-> NoResync]]
        /\ msgs = {}
        /\ wr = [w \in Writes |-> [sent |-> 0, over |-> FALSE, ver |-> 0]]
        /\ rd = [at |-> Nobody, step |-> "idle", fit |-> TRUE, value |-> Nothing]
        /\ lin = {[val |-> Nothing, done |-> {}, seen |-> {}]}
        /\ floor = 0 /\ broken = {}
        /\ left = [crashes |-> CrashesMax, lapses |-> LapsesMax, starts |-> StartsMax,
                   syncs |-> SyncsMax, severs |-> SeversMax, reads |-> ReadCount]

(* What nobody would take in any more is left out, so that it does not make states differ. *)
TakesOld == Mutant \in {"chain_version_unchecked", "attempts_unchecked", "late_words_count"}
Trim(ms, ts) ==
    IF TakesOld THEN ms
    ELSE {m \in ms :
            CASE m.t = "forward" -> /\ ts[m.to].up /\ m.cv >= ts[m.to].view.cv
                                    /\ ~(m.cv = ts[m.to].view.cv /\ m.attempt < ts[m.to].heard)
              [] m.t = "word" -> LET u == ts[m.to].run IN
                                 u # NoRun /\ ~u.acked /\ ~u.lost /\ u.fcv = m.cv /\ u.fattempt = m.attempt
              [] m.t = "update" -> ts[m.to].up /\ m.cv >= ts[m.to].view.cv
              [] OTHER -> ts[m.to].up /\ m.cv >= ts[m.to].view.cv}
Send(ms, ts) == msgs' = Trim(ms, ts)

(* ---- linearizability: every order of the updates that explains the answers ---- *)

Pending == {w \in Writes : wr[w].sent > 0 /\ ~wr[w].over}
Reading == rd.step # "idle"
Grow(L, pending, reading) ==
    L \cup UNION {{[val |-> w, done |-> c.done \cup {w},
                    seen |-> IF reading THEN c.seen \cup {w} ELSE {}] : w \in pending \ c.done} : c \in L}
RECURSIVE Close(_, _, _, _)
Close(L, pending, reading, times) ==
    IF times = 0 THEN L ELSE Close(Grow(L, pending, reading), pending, reading, times - 1)
Closed(L, pending, reading) == Close(L, pending, reading, WriteCount)
(* It took effect; or it did not, and will not. *)
Answered(L, w, ok) ==
    IF ok THEN {[c EXCEPT !.done = @ \ {w}] : c \in {d \in L : w \in d.done}}
    ELSE {c \in L : w \notin c.done}

(* ---- what becomes of an update; each of these gives [t, out, reply] ---- *)

NoReply == [w |-> 0]
Result(t, out) == [t |-> t, out |-> out, reply |-> NoReply, ver |-> 0]
RecEnd(rec, u, what) ==
    IF ~u.recorded THEN rec
    ELSE [rec EXCEPT ![u.w] = IF @ = "forgotten" THEN "none" ELSE what]

(* status: "ok", "no" (no space), "unknown" (given up), "wrong" (refused whole, no effect) *)
End(n, t, u, status) ==
    LET kept == CASE status = "wrong" -> "none"
                  [] status = "unknown" -> "unknown"
                  [] OTHER -> status
        after == [t EXCEPT !.run = NoRun,
                           !.rec = RecEnd(@, u, kept),
                           !.resync = IF u.src = "sync"
                                      THEN [step |-> IF status = "ok" THEN "wait" ELSE "ask", old |-> FALSE]
                                      ELSE [@ EXCEPT !.old = FALSE]]
        word == [t |-> "word", to |-> u.from, from |-> n, cv |-> u.cv, attempt |-> u.attempt,
                 w |-> u.w, ver |-> u.ver, status |-> status]
    IN  [t |-> after,
         out |-> IF u.src = "peer" /\ status \in {"ok", "no"} THEN {word} ELSE {},
         reply |-> IF u.src = "client" /\ status \in {"ok", "no"}
                   THEN [w |-> u.w, ok |-> status = "ok"] ELSE NoReply,
         ver |-> IF u.src = "client" /\ status = "ok" THEN u.ver ELSE 0]

Apply(t) == [t EXCEPT !.run.applying = TRUE, !.run.careful = FALSE]

GoOn(n, t) ==
    LET u == t.run IN
    CASE u.applying /\ ~(M("ended_before_it_is_applied") /\ u.acked) -> Result(t, {})
      [] u.applying -> End(n, t, u, "ok")
      [] u.applied -> IF u.acked \/ (M("ended_before_it_is_acknowledged") /\ u.src # "sync")
                      THEN End(n, t, u, "ok") ELSE Result(t, {})
      [] u.careful /\ ~u.acked -> Result(t, {})
      [] u.refused -> End(n, t, u, "no")
      [] OTHER -> Result(Apply(t), {})

(* To the successor that there is now; acknowledged where there is none. Gives [t, out]. *)
Forward(n, t) ==
    LET succ == Succ(t.view, n)
        u == [t.run EXCEPT !.acked = succ = Nobody, !.forwarded = @ \/ succ # Nobody,
                           !.fto = IF succ = Nobody THEN @ ELSE succ,
                           !.fcv = IF succ = Nobody THEN @ ELSE t.view.cv,
                           !.fattempt = IF succ = Nobody THEN @ ELSE t.attempt]
    IN  Result([t EXCEPT !.run = u],
               IF succ = Nobody THEN {}
               ELSE {[t |-> "forward", to |-> succ, from |-> n, cv |-> t.view.cv, attempt |-> t.attempt,
                      w |-> u.w, ver |-> u.ver, careful |-> u.careful, sync |-> u.src = "sync" \/ u.bysync]})
Then(first, second(_)) ==
    LET r == second(first.t) IN [r EXCEPT !.out = @ \cup first.out]

GiveUp(n, t) == End(n, t, t.run, "unknown")

(* ---- the steps of a target take this form ---- *)

(* A reader there looks again where service has ended meanwhile. *)
ReaderAfter(n, t, gaveup) ==
    IF rd.at # n THEN rd
    ELSE [rd EXCEPT !.fit = @ /\ Serves(t.view, n) /\ ~gaveup]
(* The reply is heard, or lost; lost only matters where the client sends again. *)
Take(n, r, gone, gaveup) ==
    LET ts == [tg EXCEPT ![n] = r.t]
        w == r.reply.w
        ended == IF w # 0 /\ r.ver # 0 THEN [wr EXCEPT ![w].ver = r.ver] ELSE wr
    IN
    /\ tg' = ts
    /\ Send((msgs \ gone) \cup r.out, ts)
    /\ rd' = ReaderAfter(n, r.t, gaveup)
    /\ floor' = Max(floor, r.ver)
    /\ broken' = IF w # 0 /\ r.ver # 0 /\ wr[w].ver \notin {0, r.ver} THEN broken \cup {"twice"} ELSE broken
    /\ IF w = 0 \/ (w # 0 /\ wr[w].over) THEN wr' = ended /\ lin' = lin
       ELSE \/ /\ wr' = [ended EXCEPT ![w].over = TRUE]
               /\ lin' = Answered(lin, w, r.reply.ok)
            \/ wr[w].sent < SendsMax /\ wr' = ended /\ lin' = lin
    /\ UNCHANGED <<man, left>>

(* ---- updates come, and have their turn ---- *)

Fits(t, n, u) ==
    LET v == t.view IN
    CASE u.src = "client" -> IsHead(v, n)
      [] u.src = "peer" -> /\ TakesPart(v, n) /\ ~IsHead(v, n)
                           /\ u.cv = v.cv \/ (M("chain_version_unchecked") /\ u.cv <= v.cv)
      [] OTHER -> Feeds(v, n)
(* The second look at the chain version: an update that waited may have outlived its own. *)
FitsStill(t, n, u) ==
    \/ Fits(t, n, u)
    \/ M("second_chain_version_unchecked") /\ u.src = "peer"

Base(src) == [src |-> src, w |-> 0, ver |-> 0, from |-> Nobody, cv |-> 0, attempt |-> 0,
              careful |-> FALSE, bysync |-> FALSE, recorded |-> FALSE]

ClientSends(w, n) ==
    LET again == wr[w].sent > 0 ws == [wr EXCEPT ![w].sent = @ + 1] IN
    /\ wr[w].sent < SendsMax /\ ~wr[w].over
    /\ w > 1 => wr[w - 1].sent > 0
    /\ tg[n].up /\ IsHead(tg[n].view, n)
    /\ wr' = ws
    /\ lin' = IF again THEN lin ELSE Closed(lin, Pending \cup {w}, Reading)
    /\ msgs' = msgs \cup {[t |-> "update", to |-> n, cv |-> tg[n].view.cv, w |-> w, again |-> again]}
    /\ UNCHANGED <<man, tg, rd, floor, broken, left>>

ClientUpdateComes(m) ==
    LET n == m.to t == tg[n] rec == t.rec[m.w]
        u == [Base("client") EXCEPT !.w = m.w, !.recorded = TRUE]
        queued == [t EXCEPT !.queue = Append(@, u), !.rec[m.w] = "run"]
        known == [Result(t, {}) EXCEPT !.reply = [w |-> m.w, ok |-> rec = "ok"]]
    IN  /\ m.t = "update" /\ t.up /\ t.lease /\ Len(t.queue) < 2
        /\ IsHead(t.view, n) /\ m.cv = t.view.cv
        /\ CASE M("dedup_dropped") -> Take(n, Result(queued, {}), {m}, FALSE)
             [] rec = "none" /\ m.again /\ t.forgetful ->
                  Take(n, Result([t EXCEPT !.rec[m.w] = "void"], {}), {m}, FALSE)
             [] rec = "none" -> Take(n, Result(queued, {}), {m}, FALSE)
             [] rec \in {"ok", "no"} -> Take(n, known, {m}, FALSE)
             [] OTHER -> Take(n, Result(t, {}), {m}, FALSE)     \* busy, or its outcome is unknown

ForwardComes(m) ==
    LET n == m.to t == tg[n]
        u == [Base("peer") EXCEPT !.w = m.w, !.ver = m.ver, !.from = m.from, !.cv = m.cv,
                                  !.attempt = m.attempt, !.careful = m.careful, !.bysync = m.sync]
    IN  /\ m.t = "forward" /\ t.up /\ t.lease /\ Len(t.queue) < 2
        /\ Fits(t, n, u)
        /\ ~(Syncs(t.view, n) /\ t.run # NoRun /\ t.run.lost)
              \/ M("what_left_the_chain_overtakes_the_resync")
        /\ m.attempt >= t.heard \/ M("attempts_unchecked")
        /\ Take(n, Result([t EXCEPT !.queue = Append(@, u), !.heard = Max(@, m.attempt)], {}), {m}, FALSE)

(* What of an update is refused is said at its turn; from then on it binds, or is careful. *)
Begin(n, t, u, careful, refused) ==
    LET sync == u.src = "sync"
        mine == u.src = "client"
        (* A record of a predecessor's update begins when nothing can refuse it any more. *)
        records == u.src = "peer" /\ ~u.bysync /\ ~refused /\ ~M("forwards_are_not_recorded")
        running == records /\ t.rec[u.w] \in {"run", "forgotten"}
        run == [src |-> u.src, w |-> IF sync THEN t.val ELSE u.w,
                ver |-> IF mine THEN Version(t.view.cv, t.sequence + 1) ELSE IF sync THEN t.ver ELSE u.ver,
                from |-> u.from, cv |-> u.cv, attempt |-> u.attempt, bysync |-> u.bysync,
                careful |-> careful, refused |-> refused,
                recorded |-> IF records THEN ~running ELSE u.recorded,
                applying |-> FALSE, applied |-> sync, acked |-> FALSE, lost |-> FALSE,
                forwarded |-> FALSE, fto |-> Nobody, fcv |-> 0, fattempt |-> 0]
        began == [t EXCEPT !.run = run, !.queue = Tail(@),
                           !.sequence = IF mine THEN @ + 1 ELSE @,
                           !.rec = IF ~records THEN @
                                   ELSE [@ EXCEPT ![u.w] = IF running THEN "forgotten" ELSE "run"],
                           !.forgetful = @ \/ running]
    IN  IF refused THEN End(n, began, run, "no")
        ELSE Then(Forward(n, began), LAMBDA x : GoOn(n, x))

Turn(n) ==
    LET t == tg[n] u == Head(t.queue)
        (* Whatever came before is here already: it is not refused, and binds the successor. *)
        here == u.src = "peer" /\ u.ver # 0 /\ t.ver = u.ver /\ ~M("what_is_here_is_refused")
    IN  /\ t.up /\ t.queue # <<>> /\ Idle(n)
        /\ IF ~FitsStill(t, n, u) \/ ~t.lease
           THEN Take(n, End(n, [t EXCEPT !.queue = Tail(@)], u, "wrong"), {}, FALSE)
           ELSE \/ Take(n, Begin(n, t, u, u.careful /\ ~here, FALSE), {}, FALSE)
                \/ /\ CarefulToo /\ u.src = "client" /\ Succ(t.view, n) # Nobody
                   /\ Take(n, Begin(n, t, u, TRUE, FALSE), {}, FALSE)
                \/ /\ CarefulToo /\ u.src = "peer" /\ u.careful /\ ~here
                   /\ Take(n, Begin(n, t, u, FALSE, TRUE), {}, FALSE)

Applied(n) ==
    LET t == tg[n] u == t.run
        there == [t EXCEPT !.val = u.w, !.ver = u.ver, !.run.applying = FALSE, !.run.applied = TRUE]
    IN  /\ t.up /\ u # NoRun /\ u.applying
        /\ Take(n, IF u.lost THEN GiveUp(n, there) ELSE GoOn(n, there), {}, u.lost)

WordComes(m) ==
    LET n == m.to t == tg[n] u == t.run
        fresh == u.fcv = m.cv /\ u.fattempt = m.attempt /\ u.fto = m.from
        may == u.careful \/ u.src = "sync"
        heard == [t EXCEPT !.run.acked = TRUE,
                           !.run.refused = @ \/ (m.status = "no" /\ ~M("refusals_are_not_heard"))]
    IN  /\ m.t = "word" /\ t.up /\ u # NoRun
        /\ fresh \/ M("late_words_count")
        /\ ~u.lost /\ ~u.acked /\ u.w = m.w
        /\ IF m.status = "no" /\ ~may
           THEN /\ broken' = broken \cup {"bound"} /\ msgs' = msgs \ {m}
                /\ UNCHANGED <<man, tg, wr, rd, lin, floor, left>>
           ELSE Take(n, GoOn(n, heard), {m}, FALSE)

(* ---- the chain changes: kv_replica_configure ---- *)

Lose(n, t) ==
    IF t.run.lost THEN Result(t, {})
    ELSE LET lost == [t EXCEPT !.run.lost = TRUE, !.run.acked = FALSE] IN
         IF t.run.applied THEN GiveUp(n, lost)
         ELSE Result(IF t.run.applying THEN lost ELSE Apply(lost), {})

CarryOn(n, t) ==
    LET u == t.run succ == Succ(t.view, n)
        (* The successor that is gone may have applied a careful update, and shown it. *)
        binds == u.careful /\ u.forwarded /\ u.src # "sync" /\ succ # u.fto /\ ~M("another_successor_may_refuse")
        on == [t EXCEPT !.run.lost = FALSE]
        bound == IF binds THEN Apply(on) ELSE on
        untold == [bound EXCEPT !.run.acked = TRUE]
    IN  CASE M("a_new_tail_drops_what_runs") /\ succ = Nobody -> GiveUp(n, t)
          [] M("a_new_successor_is_not_told") -> GoOn(n, untold)
          [] OTHER -> Then(Forward(n, bound), LAMBDA x : IF x.run.acked THEN GoOn(n, x) ELSE Result(x, {}))

RunSwept(n, t) ==
    IF t.run = NoRun THEN Result(t, {})
    ELSE CASE t.run.src = "sync" /\ ~Feeds(t.view, n) -> End(n, t, t.run, "wrong")
           [] Serves(t.view, n) -> CarryOn(n, t)
           [] OTHER -> Lose(n, t)

QueueSwept(n, t) ==
    LET dropped == {u \in Range(t.queue) : ~FitsStill(t, n, u)} IN
    [t EXCEPT !.queue = SelectSeq(@, LAMBDA u : FitsStill(t, n, u)),
              !.rec = [w \in Writes |->
                         IF \E u \in dropped : u.recorded /\ u.w = w THEN "none" ELSE @[w]]]

Forgotten(rec) == [w \in Writes |-> IF rec[w] \in {"run", "forgotten"} THEN "forgotten" ELSE "none"]

Configured(n, t, v) ==
    LET missed == Syncs(v, n) \/ (Serves(v, n) /\ ~TakesPart(t.view, n))
        forgets == missed /\ Mutant \notin {"records_are_not_forgotten", "a_new_process_forgets_nothing"}
        new == [t EXCEPT !.view = v, !.attempt = 0, !.heard = 0, !.sequence = 0,
                         !.uptodate = IF M("up_to_date_for_any_version") THEN @ ELSE 0, !.resync = NoResync,
                         !.rec = IF forgets THEN Forgotten(@) ELSE @,
                         !.forgetful = @ \/ forgets]
    IN  RunSwept(n, QueueSwept(n, new))

(* A process that began anew waits until its target has left the chain. *)
Learned(n) ==
    LET t == tg[n] v == Published IN
    IF t.fenced /\ TakesPart(v, n) /\ ~M("a_new_process_is_not_fenced") THEN Result(t, {})
    ELSE IF v.cv = t.view.cv THEN Result(t, {})
    ELSE Configured(n, [t EXCEPT !.fenced = FALSE], v)
GaveUp(n, r) == tg[n].run # NoRun /\ r.t.run = NoRun /\ tg[n].run.src # "sync"

Learn(n) ==
    LET r == Learned(n) IN
    /\ tg[n].up /\ tg[n].view.cv < man.cv /\ r.t # tg[n]
    /\ Take(n, r, {}, GaveUp(n, r))

(* mgmtd leases nothing to a node that goes by routing info of before it was given up. *)
Renew(n) ==
    LET t == tg[n] r == IF M("leased_before_it_knows") THEN Result(t, {}) ELSE Learned(n) IN
    /\ t.up /\ ~t.lease
    /\ Take(n, [r EXCEPT !.t.lease = TRUE], {}, GaveUp(n, r))

Sever(n) ==
    LET t == [tg[n] EXCEPT !.attempt = @ + 1] u == t.run IN
    /\ left.severs > 0 /\ t.up /\ u # NoRun /\ u.forwarded /\ ~u.acked /\ ~u.lost
    /\ LET r == Forward(n, t) ts == [tg EXCEPT ![n] = r.t] IN
       tg' = ts /\ msgs' = Trim(msgs \cup r.out, ts)
    /\ left' = [left EXCEPT !.severs = @ - 1]
    /\ UNCHANGED <<man, wr, rd, lin, floor, broken>>

(* ---- resync of what is behind: compare, put in line, wait, say so ---- *)

Ask(n) ==
    LET t == tg[n] succ == Succ(t.view, n)
        step == IF M("synced_without_comparing") THEN "wait" ELSE "sent"
        ts == [tg EXCEPT ![n].resync.step = step]
        ask == [t |-> "compare", to |-> succ, from |-> n, cv |-> t.view.cv, ver |-> t.ver]
    IN  /\ t.up /\ Feeds(t.view, n) /\ t.resync.step = "ask"
        /\ tg' = ts /\ Send(IF step = "sent" THEN msgs \cup {ask} ELSE msgs, ts)
        /\ UNCHANGED <<man, wr, rd, lin, floor, broken, left>>

CompareComes(m) ==
    LET t == tg[m.to]
        answer == [t |-> "compared", to |-> m.from, from |-> m.to, cv |-> m.cv, same |-> t.ver = m.ver]
    IN  /\ m.t = "compare" /\ t.up /\ t.lease /\ Syncs(t.view, m.to) /\ m.cv = t.view.cv
        /\ ~(t.run # NoRun /\ t.run.lost) \/ M("what_left_the_chain_overtakes_the_resync")
        /\ Send((msgs \ {m}) \cup {answer}, tg)
        /\ UNCHANGED <<man, tg, wr, rd, lin, floor, broken, left>>

ComparedComes(m) ==
    LET n == m.to t == tg[n]
        (* What had its turn before the keys were compared must end first. It takes deletes to need it. *)
        old == t.run # NoRun
        ts == [tg EXCEPT ![n].resync = [step |-> IF m.same THEN "wait" ELSE "put", old |-> old],
                         ![n].queue = IF m.same THEN @ ELSE Append(@, Base("sync"))]
    IN  /\ m.t = "compared" /\ t.up /\ m.cv = t.view.cv /\ t.resync.step = "sent"
        /\ tg' = ts /\ Send(msgs \ {m}, ts)
        /\ UNCHANGED <<man, wr, rd, lin, floor, broken, left>>

Tell(n) ==
    LET t == tg[n] ts == [tg EXCEPT ![n].resync.step = "told"] IN
    /\ t.up /\ Feeds(t.view, n) /\ t.resync.step = "wait"
    /\ ~t.resync.old
    /\ tg' = ts
    /\ Send(msgs \cup {[t |-> "synced", to |-> Succ(t.view, n), from |-> n, cv |-> t.view.cv]}, ts)
    /\ UNCHANGED <<man, wr, rd, lin, floor, broken, left>>

SyncedComes(m) ==
    LET t == tg[m.to] ts == [tg EXCEPT ![m.to].uptodate = m.cv] IN
    /\ m.t = "synced" /\ t.up /\ Syncs(t.view, m.to) /\ m.cv = t.view.cv
    /\ tg' = ts /\ Send(msgs \ {m}, ts)
    /\ UNCHANGED <<man, wr, rd, lin, floor, broken, left>>

(* ---- reads: clean before the look-up and after, by any target that serves ---- *)

Dirty(n) ==
    LET t == tg[n] u == t.run IN
    /\ u # NoRun /\ u.src # "sync" /\ ~M("dirty_unchecked")
    /\ Succ(t.view, n) # Nobody \/ (u.forwarded /\ ~M("clean_without_a_successor"))
Leased(n) == tg[n].lease \/ M("lease_unchecked_at_nodes")

ReadBegins ==
    /\ rd.step = "idle" /\ left.reads > 0
    /\ rd' = [rd EXCEPT !.step = "begin"]
    /\ lin' = Closed({[c EXCEPT !.seen = {c.val}] : c \in lin}, Pending, TRUE)
    /\ left' = [left EXCEPT !.reads = @ - 1]
    /\ UNCHANGED <<man, tg, msgs, wr, floor, broken>>

ReadLetIn(n) ==
    /\ rd.step = "begin" /\ tg[n].up /\ Serves(tg[n].view, n) /\ Leased(n)
    /\ ~Dirty(n) \/ M("dirty_checked_only_after")
    /\ rd' = [at |-> n, step |-> "look", fit |-> TRUE, value |-> Nothing]
    /\ UNCHANGED <<man, tg, msgs, wr, lin, floor, broken, left>>

ReadLooks ==
    /\ rd.step = "look" /\ tg[rd.at].up
    /\ rd' = [rd EXCEPT !.step = "check", !.value = tg[rd.at].val]
    /\ UNCHANGED <<man, tg, msgs, wr, lin, floor, broken, left>>

ReadChecked ==
    LET n == rd.at
        good == /\ rd.fit \/ M("service_checked_only_before")
                /\ Leased(n)
                /\ ~Dirty(n) \/ M("dirty_checked_only_before")
    IN  /\ rd.step = "check" /\ tg[n].up
        /\ rd' = [at |-> Nobody, step |-> IF good THEN "idle" ELSE "begin", fit |-> TRUE, value |-> Nothing]
        /\ lin' = IF good THEN {[c EXCEPT !.seen = {}] : c \in {d \in lin : rd.value \in d.seen}} ELSE lin
        /\ UNCHANGED <<man, tg, msgs, wr, floor, broken, left>>

(* ---- faults ---- *)

Crash(n) ==
    LET ts == [tg EXCEPT ![n] = [NewProcess(@) EXCEPT !.up = FALSE]] IN
    /\ left.crashes > 0 /\ tg[n].up
    /\ tg' = ts /\ Send({m \in msgs : m.to # n}, ts)
    /\ rd' = IF rd.at = n THEN [at |-> Nobody, step |-> "begin", fit |-> TRUE, value |-> Nothing] ELSE rd
    /\ left' = [left EXCEPT !.crashes = @ - 1]
    /\ UNCHANGED <<man, wr, lin, floor, broken>>

Restart(n) ==
    /\ left.starts > 0 /\ ~tg[n].up
    /\ tg' = [tg EXCEPT ![n].up = TRUE, ![n].fenced = TRUE,
                        ![n].forgetful = ~M("a_new_process_forgets_nothing")]
    /\ left' = [left EXCEPT !.starts = @ - 1]
    /\ UNCHANGED <<man, msgs, wr, rd, lin, floor, broken>>

(* The node hears nothing of mgmtd for a whole lease. *)
Lapse(n) ==
    /\ left.lapses > 0 /\ tg[n].up /\ tg[n].lease
    /\ tg' = [tg EXCEPT ![n].lease = FALSE]
    /\ left' = [left EXCEPT !.lapses = @ - 1]
    /\ UNCHANGED <<man, msgs, wr, rd, lin, floor, broken>>

(* ---- mgmtd: the transition table ---- *)

Dead(n) == ~tg[n].up \/ tg[n].fenced \/ ~tg[n].lease \/ M("lease_guard_dropped")
Open(n) == tg[n].up /\ ~tg[n].fenced /\ tg[n].lease
Publish(next) ==
    /\ man' = [next EXCEPT !.cv = @ + 1]
    /\ UNCHANGED <<tg, msgs, wr, rd, floor, broken>>

Remove ==
    \E gone \in SUBSET Range(man.serving) :
        /\ gone # {} /\ \A n \in gone : Dead(n)
        /\ (\E n \in gone : Open(n)) => left.lapses > 0     \* only where leases are not waited for
        /\ left' = IF \E n \in gone : Open(n) THEN [left EXCEPT !.lapses = @ - 1] ELSE left
        /\ lin' = lin
        /\ IF gone = Range(man.serving)
           THEN Publish([man EXCEPT !.last = man.serving, !.serving = <<>>, !.sync = Nobody])
           ELSE Publish([man EXCEPT !.serving = SelectSeq(@, LAMBDA n : n \notin gone)])

SyncingDies ==
    /\ man.sync # Nobody /\ Dead(man.sync)
    /\ ~Open(man.sync)
    /\ Publish([man EXCEPT !.sync = Nobody]) /\ UNCHANGED <<lin, left>>

(* A total outage: one of those that hold every acknowledged update starts, alone. Reads before it may have
   seen what no device has: the orders that explain begin anew with what the starter holds. *)
StartsAlone(n) ==
    /\ man.serving = <<>> /\ n \in Range(man.last) /\ Open(n)
    /\ lin' = LET val == tg[n].val IN
              Closed({[val |-> val, done |-> d, seen |-> IF Reading THEN {val} ELSE {}] :
                        d \in {p \in SUBSET Pending : val \in Pending => val \in p}}, Pending, Reading)
    /\ Publish([man EXCEPT !.serving = <<n>>,
                           !.last = IF M("claims_are_kept") THEN Without(@, n) ELSE <<>>])
    /\ UNCHANGED left

(* Only where claims are kept: the next one starts after the first is gone. *)
GoesBack ==
    /\ M("claims_are_kept") /\ man.last # <<>> /\ man.serving # <<>>
    /\ \A n \in Range(man.serving) : ~Open(n)
    /\ Publish([man EXCEPT !.serving = <<>>, !.sync = Nobody]) /\ UNCHANGED <<lin, left>>

StartsToSync(n) ==
    /\ man.serving # <<>> /\ man.sync = Nobody /\ left.syncs > 0
    /\ n \notin Range(man.serving) /\ n \notin Range(man.last) /\ Open(n)
    /\ Publish([man EXCEPT !.sync = n])
    /\ left' = [left EXCEPT !.syncs = @ - 1] /\ UNCHANGED lin

Promote ==
    LET n == man.sync IN
    /\ n # Nobody /\ man.serving # <<>>
    /\ tg[n].uptodate = man.cv \/ (M("up_to_date_for_any_version") /\ tg[n].uptodate # 0)
    /\ Publish([man EXCEPT !.serving = Append(@, n), !.sync = Nobody]) /\ UNCHANGED <<lin, left>>

Next ==
    \/ \E n \in Targets :
         \/ \E w \in Writes : ClientSends(w, n)
         \/ Turn(n) \/ Applied(n) \/ Learn(n) \/ Renew(n) \/ Sever(n)
         \/ Ask(n) \/ Tell(n) \/ ReadLetIn(n)
         \/ Crash(n) \/ Restart(n) \/ Lapse(n) \/ StartsAlone(n) \/ StartsToSync(n)
    \/ \E m \in msgs : \/ ClientUpdateComes(m) \/ ForwardComes(m) \/ WordComes(m)
                       \/ CompareComes(m) \/ ComparedComes(m) \/ SyncedComes(m)
    \/ ReadBegins \/ ReadLooks \/ ReadChecked
    \/ Remove \/ SyncingDies \/ GoesBack \/ Promote
Spec == Init /\ [][Next]_vars

(* ---- what always holds ---- *)

(* P1, P3: some order of the updates, each at most once, explains every answer. *)
Linearizable == lin # {}
(* P2: whoever serves, or may start alone, holds every acknowledged update, or a newer one. *)
Durable == \A n \in Range(man.serving) \cup Range(man.last) : tg[n].ver >= floor
(* P7: one version is one value. *)
Agreement == \A a, b \in Targets : tg[a].ver = tg[b].ver => tg[a].val = tg[b].val
(* P4: of two that have a lease and believe to be heads, at most one is believed by mgmtd's version. *)
OneHead == \A a, b \in Targets :
    (a # b /\ tg[a].up /\ tg[b].up) =>
        ~(IsHead(tg[a].view, a) /\ IsHead(tg[b].view, b) /\ tg[a].view.cv = tg[b].view.cv)
Binding == "bound" \notin broken
(* P3: no update is acknowledged by two heads as two. *)
Once == "twice" \notin broken
(* P7: when nothing is under way, those that serve hold the same. *)
Quiet ==
    /\ \A n \in Targets : Idle(n) /\ tg[n].queue = <<>>
    /\ \A n \in Range(man.serving) : tg[n].up /\ tg[n].view.cv = man.cv
    /\ \A m \in msgs : m.t # "forward"
Converged == Quiet => \A a, b \in Range(man.serving) : tg[a].ver = tg[b].ver
=============================================================================
