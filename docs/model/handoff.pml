/* Asking another node, and handing over, while rings may disagree for ever (rules 16, 17, 21).

   Node 0 has a request; who holds the conversation, and whom each ring names, is anything. Who is asked serves or says at once that it does
   not; only node 0 goes on. Nodes hand over meanwhile, and claims are left behind.

   What must hold: the request is served at last; and hand-over ends (MOVES). LAPSED: node 1 holds the conversation and has lost the database
   for good: the request is served all the same, and nobody is told that the database cannot be reached.   M_...: a safeguard is taken out. */
byte own=2;                             /* who holds the claim; 2: nobody */
byte w0, w1;                            /* whom the ring of node 0, of node 1 names */
bit served, told;                       /* told: 503 although node 0 reaches the database */
#define W(n) ((n)==0 -> w0 : w1)
#ifdef M_NO_AGREE
#define GIVES(n) (own==n && W(n)!=n)
#else
#define GIVES(n) (own==n && W(n)!=n && W(1-n)==1-n)     /* offered to a node whose own ring names it: it accepts */
#endif
#ifdef LAPSED
#define LIVES(n) ((n)==0)
#else
#define LIVES(n) true
#endif

/* It lets go, without waiting for the taker, which loads when it is told, or never hears of it. */
proctype Node(byte n) {
end:
  do
  :: atomic { LIVES(n) && GIVES(n) -> own=2 };
move: if
     :: atomic { own==2 && LIVES(1-n) -> own=1-n }
     :: skip
     fi
  od
}

/* The watcher: the session of a node that does not renew is over some time. */
proctype Watcher() {
end:
#ifdef LAPSED
  own=2
#else
  false
#endif
}

proctype Entry() {
  byte ask; bit here, named;            /* whom to ask next, 2: as the ring says; here: serve it here whatever the ring says */
  ask=2;
  do
  :: served || told -> break
  :: else ->
     if
     :: ask==2 && !here && own!=0 && w0==1 -> ask=1; named=0
     :: else
     fi;
     if
     :: ask==1 ->                                                        /* node 1 answers, at once */
        if
#ifdef LAPSED
#ifdef M_LAPSED_REFUSES
        :: told=1
#else
        :: ask=2; here=1                                                 /* lapsed: not mine */
#endif
#else
        :: atomic { own==1 -> served=1 }
        :: atomic { own==2 && (named || w1==1) -> own=1; served=1 }      /* it loads: who is named must */
        :: atomic { own==2 && !named && w1!=1 -> ask=2;
#ifndef M_RING_STRICT
                    here=1                                               /* nobody known: the second must serve */
#endif
           }
        :: atomic { own==0 -> ask=2; here=1 }                            /* you yourself */
#endif
        fi
     :: ask==2 ->                                                        /* here: through the actor, or directly */
        here=0;
        if
        :: atomic { own!=1 -> own=0; served=1 }
        :: atomic { own==1 -> ask=1; named=1 }                           /* the claim names node 1 */
        fi
     fi
  od
}

init { atomic {
#ifdef LAPSED
  own=1;
#else
  if :: own=0 :: own=1 :: own=2 fi;
#endif
  if :: w0=0 :: w0=1 fi; if :: w1=0 :: w1=1 fi;
  run Node(0); run Node(1); run Watcher(); run Entry()
} }
#ifdef MOVES
ltl moves_end { <>[] (!(Node[1]@move) && !(Node[2]@move)) }
#else
ltl served_at_last { <>(served && !told) }
#endif
