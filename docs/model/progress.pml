/* A node dies, or freezes for ever, at any instruction, perhaps inside a transaction that holds the conversation's lock; renewals that it sent
   may run after its death. Another node gets the claim at last (rules 3, 6, 7).   M_...: a safeguard is taken out. */
#ifndef TTL
#define TTL 2
#endif
byte claim=1;                           /* 1: the node that dies, 2: the other */
bit ended, dead, locked;                /* locked: the first node's transaction holds the row */
bit watching; byte age;
byte underWay=1;                        /* renewals that may run late */

inline renew() { if :: !ended -> watching=0; age=0 :: else fi }

proctype Node() {
  do
  :: d_step { !dead -> renew() }
  :: !dead && !locked -> locked=1;                                        /* a transaction of more than one flight */
     if :: dead -> break :: !dead -> locked=0 fi
  :: dead -> break
  od
}
proctype Death() { dead=1 }
proctype Late() {
  do
  :: d_step { underWay>0 && dead -> underWay--; renew() }
  :: underWay==0 -> break
  od
}
proctype Database() {
  do
#ifndef M_NO_IDLE_TIMEOUT
  :: d_step { dead && locked -> locked=0 }                                /* it has idled for a second */
#endif
  :: claim!=1 -> break
  od
}
proctype Tick() {
  do
  :: d_step { watching && age<TTL -> age++ }
  :: ended -> break
  od
}
proctype Other() {
  do
  :: d_step { !ended && !watching -> watching=1; age=0 }
#ifndef M_NOBODY_ENDS
  :: d_step { !ended && watching && age>=TTL -> ended=1 }
#endif
  :: d_step { ended && claim==1 && !locked -> claim=2 }; break
  od
}
init { atomic { run Node(); run Death(); run Late(); run Database(); run Tick(); run Other() } }
ltl taken_over { [] (dead -> <> (claim==2)) }
