/* Unread counts, of one member (rules 5, 25; resets need no owner).

   Two nodes fold, since a late fold may meet that of the next owner; anybody resets, under the row's lock, to what the member had read when it
   was asked; messages are appended, the member leaves and joins again, and old rows of the log are deleted. Each is one transaction; what was sent and given up runs
   late, which is the same as running at any time.

   What must hold, whenever nobody has the lock: the count, and the messages beyond the place it is counted up to, are together what came since
   the member joined or said what it had read.   M_...: a safeguard is taken out. */
#ifndef SEQ
#define SEQ 4
#endif
byte seq, first=1;                      /* the log holds first to seq; all are messages by others */
byte counted, unread;                   /* the member's row */
byte due;                               /* what the two should be together */
byte joinedAt;                          /* messages up to it are none of the member's */
bit locked;

inline lock() { d_step { !locked -> locked=1 } }
#define MAX(a,b) ((a)>(b)->(a):(b))
#define ROWS(a,b) ((b)>MAX(a,first-1) -> (b)-MAX(a,first-1) : 0)      /* that the log holds beyond a up to b */

proctype Append() {
end:
  do
  :: atomic { seq<SEQ && !locked -> seq++; due++ }
  od
}
/* Adds what lies beyond the place, and moves the place. */
proctype Fold() {
  byte from, to, n;
end:
  do
#ifdef M_READ_BEFORE_LOCK
  :: d_step { from=counted; to=seq }; lock();
#else
  :: lock(); d_step { from=counted; to=seq };
#endif
#ifdef M_OWN_PLACE
     from=n;
#endif
     d_step { if :: to>from -> unread=unread+ROWS(from,to); counted=to :: else fi; locked=0; n=to; from=0; to=0
#ifndef M_OWN_PLACE
        n=0
#endif
     }
  od
}
/* What was read up to s: a fold never went beyond the log, and a place never goes back. */
proctype Reset() {
  byte s, place;
end:
  do
  :: d_step { s<seq -> s++ }
  :: s>=joinedAt -> lock();
     d_step {
       place=MAX(s,counted);
#ifdef M_RESET_ZERO
       unread=0;
#else
       unread=ROWS(s,place);
#endif
       counted=place; due=ROWS(s,seq); locked=0; place=0
     }
  od
}
/* Whoever joins begins at the row that says so. */
proctype Join() {
end:
  do
  :: atomic { seq<SEQ && !locked -> seq++; joinedAt=seq; due=0; unread=0;
#ifndef M_JOIN_AT_ZERO
       counted=seq
#else
       counted=0
#endif
     }
  od
}
/* Rows go by their age once they are counted: a reset finds them no more, but a place has passed them. */
proctype Purge() {
end:
  do
#ifdef M_PURGE_UNCOUNTED
  :: atomic { first<=seq && !locked -> first++ }
#else
  :: atomic { first<=counted && first<=seq && !locked -> first++ }
#endif
  od
}
proctype Monitor() {
end:
  do
  :: d_step { !locked && unread+ROWS(counted,seq)!=due -> assert(false) }
  od
}
init { atomic { run Append(); run Fold(); run Fold(); run Reset(); run Join(); run Purge(); run Monitor() } }
