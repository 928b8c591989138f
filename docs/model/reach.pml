/* When is a holder that cannot be reached asked in the database (rule 18)? Only one that lives: a dead one's session is over soon, and the
   conversation shall have an actor then. And only one that stays out of reach for DEAF ticks: one that comes back keeps what it holds.

   The asker cannot know whether the holder lives. It sees counters, and what a look shows may have happened long before it is seen: a
   renewal counts when a look that was sent after the holder was found out of reach still showed the one before it.

   What must hold (assertions): where a want is written, the holder has renewed since it was found out of reach, and DEAF ticks have passed.
   M_...: a safeguard is taken out. */
#ifndef MANY
#define MANY 4                          /* renewals, and looks */
#endif
#define DEAF 2

byte counter;                           /* the holder's session */
bit out, deaf, renewed;                 /* out of reach; found so; a renewal has run since then */
byte age;                               /* since it was found so */
byte seen; bit lookAfter, moved;        /* the counter last seen; the last look was sent after it was found so; what RenewedSince says */
bit wanted;

proctype Holder() {                     /* it may die at any time */
  do
  :: d_step { counter<MANY -> counter++; renewed=deaf }
  :: break
  od
}
proctype Network() {
end:
  out=1;
  if
  :: d_step { age<DEAF && !wanted -> out=0 }
  :: skip
  fi
}
proctype Tick() {
end:
  do
  :: d_step { deaf && age<DEAF -> age++ }
  od
}
proctype Watcher() {
  byte n, got; bit after;
  do
  :: n<MANY -> d_step { n++; after=deaf };                               /* a look is sent */
     got=counter;                                                        /* it runs */
     d_step {                                                            /* its reply is noted */
       if
#ifdef M_ANY_RENEWAL
       :: got!=seen -> moved=deaf
#else
       :: got!=seen -> moved=lookAfter
#endif
       :: else
       fi;
       seen=got; lookAfter=after; got=0; after=0
     }
  :: n==MANY -> break
  od
}
#ifdef M_AT_ONCE
#define LONG true
#else
#define LONG (age>=DEAF)
#endif
proctype Asker() {
end:
  d_step { out -> deaf=1; renewed=0; moved=0; lookAfter=0 };
end_waits:
  if
  :: !out                                                                /* asked over the network */
  :: d_step { out && moved && LONG -> wanted=1; assert(renewed); assert(age>=DEAF) }
  fi
}
init { atomic { run Holder(); run Network(); run Tick(); run Watcher(); run Asker() } }
