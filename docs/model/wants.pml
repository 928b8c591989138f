/* A holder that no network leads to (rule 18), and that of two servers which know nothing of each other.

   Node 1 holds the conversation; node 0 has requests for it and only the database in common with node 1. It asks for the conversation in
   the database. Both have requests for ever. That two of them never serve it at once is claim.pml's.

   What must hold: requests of both are served again and again (both).   M_...: a safeguard is taken out.

   A reply to "what is wanted of me?" may be lost once, and the want with it. The minute for which both serve directly ends whenever it likes,
   once each. */
#ifndef LOSSES
#define LOSSES 1
#endif

byte claim;                             /* 0: null or over, 1: node 0, 2: node 1 */
bit want0, want1;                       /* catbird_wants: node 0 is asked, node 1 is asked */
bit apart0, apart1;                     /* serves it directly, for a minute */
bit back0, back1;                       /* its minute has ended, once */
byte lost;
bit served0, served1;                   /* requests served, modulo 2 */

/* What a node does for one request: through an actor, which claims, or directly where it is apart. */
proctype Node0() {
  bit asked;
  do
  :: d_step { !apart0 && claim!=2 -> claim=1; served0=1-served0; asked=0 }          /* the actor */
  :: d_step { apart0 && claim==0 -> served0=1-served0; asked=0 }                    /* directly: the claim stays null */
  :: d_step { apart0 && claim==1 -> served0=1-served0; asked=0 }                    /* one's own claim: the actor, still */
  :: d_step { claim==2 && !asked -> asked=1; want1=1; apart0=1 }                    /* held: ask, once a request */
#ifndef M_ASK_ONCE
  :: d_step { claim==2 && asked -> asked=0 }                                      /* its time is up; the next one asks again */
#endif
  od
}
proctype Node1() {
  bit asked;
  do
  :: d_step { !apart1 && claim!=1 -> claim=2; served1=1-served1; asked=0 }
  :: d_step { apart1 && claim==0 -> served1=1-served1; asked=0 }
  :: d_step { apart1 && claim==2 -> served1=1-served1; asked=0 }
  :: d_step { claim==1 && !asked -> asked=1; want0=1; apart1=1 }
  :: d_step { claim==1 && asked -> asked=0 }
  od
}
/* The keeper reads what is wanted, which deletes it, and lets go. */
proctype Wants0() {
  do
  :: d_step { want0 -> want0=0; apart0=1 }; d_step { if :: claim==1 -> claim=0 :: else fi }
  od
}
proctype Wants1() {
  do
#ifdef M_HOLDER_STAYS
  :: d_step { want1 -> want1=0 }; d_step { if :: claim==2 -> claim=0 :: else fi }
#else
  :: d_step { want1 -> want1=0; apart1=1 }; d_step { if :: claim==2 -> claim=0 :: else fi }
#endif
  :: d_step { want1 && lost<LOSSES -> want1=0; lost++ }                             /* the reply is lost */
  od
}
proctype Minute() {
  do
  :: d_step { apart0 && !back0 -> apart0=0; back0=1 }
  :: d_step { apart1 && !back1 -> apart1=0; back1=1 }
  :: back0 && back1 -> break
  :: true -> break
  od
}
init { atomic { claim=2; run Node0(); run Node1(); run Wants0(); run Wants1(); run Minute() } }
ltl both { []<>(served0==0) && []<>(served0==1) && []<>(served1==0) && []<>(served1==1) }
