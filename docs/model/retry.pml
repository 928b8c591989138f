/* One change, asked for more than once because contact was lost (rules 10, 19, 20, 26).

   The first node sends it to whoever owns the conversation, may lose contact, and asks again there or elsewhere. Each copy is decided at any
   later time, where the conversation is owned then (that is claim.pml's), even after the client was told something. Meanwhile others move the epoch,
   the caller leaves and joins, the mailbox fills up and empties.

   KIND 1: the change names the epoch that it needs, and moves it. KIND 2: it needs no epoch, only that the caller is a member.
   What must hold: told "no", it has not happened and never will; told "yes", it has; it happens once.   M_...: a safeguard is taken out. */
#ifndef KIND
#define KIND 1
#endif
#define NEEDED 5
byte epoch=NEEDED; bit member=1, crowded;
byte joins, fills;
bit done, toldNo, toldUnknown;
byte first;                             /* the answer to the first copy */
bit sent;

#ifdef M_NO_LOOKUP
#define THERE false
#else
#define THERE done
#endif
/* What an owner answers: 1 yes, 2 a refusal that can never turn, 3 one that may, 4 the mailbox is full. */
inline decide(ans) {
  if
  :: crowded -> ans=4                                                       /* before anything was looked up */
  :: !crowded && THERE -> ans=1                                             /* its id is there */
  :: !crowded && !THERE && !member -> ans=3
  :: !crowded && !THERE && member && KIND==1 && epoch!=NEEDED -> ans=2
  :: !crowded && !THERE && member && (KIND!=1 || epoch==NEEDED) ->
     assert(!toldNo && !done); done=1; ans=1;
     if :: KIND==1 -> epoch++ :: else fi
  fi
}
proctype Others() {
  do
  :: epoch<NEEDED+2 -> epoch++
  :: d_step { joins<2 -> member=!member; joins++ }
  :: d_step { fills<2 -> crowded=!crowded; fills++ }
  od
}
proctype Copy() { byte a; sent; atomic { decide(a); first=a } }
proctype First() {
  byte a; bit unknown;
  sent=1;
  if
  :: first!=0 -> a=first; goto judge
  :: unknown=1                                                           /* contact is lost */
  fi;
again:
  atomic { decide(a) };
judge:
  if
  :: a==1 || a==2 || (!unknown && a==3) -> goto tell
  :: a==4 ->
     if
     :: !unknown -> goto tell
     :: unknown -> goto again                                             /* full: it may have moved meanwhile; until the time is up */
     :: unknown -> toldUnknown=1; goto over
     fi
#ifdef M_PASS_REFUSAL
  :: unknown && a==3 -> goto tell
#else
  :: unknown && a==3 -> toldUnknown=1; goto over                          /* 504 OutcomeUnknown */
#endif
  fi;
tell:
  atomic { if :: a==1 -> assert(done) :: else -> toldNo=1; assert(!done) fi };
over:
  skip
}
init { atomic { run Others(); run Copy(); run First() } }
