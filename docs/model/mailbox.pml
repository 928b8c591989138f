/* One node's actors of one conversation: spawning, mailboxes, passivation and release (rules 7, 9, 12, 15).

   Two senders post a letter each, through the registry, while idle actors are swept, busy ones told to release, and another node claims
   the conversation whenever its claim is null. The session never lapses: that is claim.pml. A reader may have found any actor, however long
   ago, and looks at its snapshot now.

   What must hold: every letter is answered (a sender that waits for ever is an invalid end state), and no snapshot that may be believed
   differs from the database.   M_...: a safeguard is taken out. */
#ifndef NA
#define NA 3     /* actors, one after another */
#endif
#ifndef OTHERS
#define OTHERS 2 /* claims of the other node */
#endif
#define NS 2     /* senders */

mtype = { live, releasing, gone };
mtype phase[4] = live;
bit running[4];
byte box[4];                            /* the senders whose letters wait, as bits */
bit seen[4]; bit silent[4]; byte snapVer[4]; byte snapFence[4]; bit holds[4];   /* seen: the snapshot may be believed; holds: it names a claim */
byte slot, made;                        /* the registry's place for the conversation, 0: none */
byte ver, fence, claim;                 /* the row; claim 0: null, 1: this node's session, 2: the other node's */
byte answered, moved;                   /* senders, as bits */

#ifdef M_KEEP_SNAPSHOT
#define GO(i) phase[i]=gone
#else
#define GO(i) phase[i]=gone; seen[i]=0
#endif
#ifdef M_FORGET_ANY
#define FORGET(i) slot=0
#else
#define FORGET(i) if :: slot==i -> slot=0 :: else fi
#endif
#ifdef M_RELEASE_NOFENCE
#define MINE(f_) (claim==1)
#else
#define MINE(f_) (claim==1 && fence==f_)
#endif

/* What ends an actor that is marked gone: its snapshot goes, then its place, then its claim. */
inline finish(i, f_) {
  d_step { f_=(holds[i] -> snapFence[i] : 0); holds[i]=0; seen[i]=0 };
  d_step { FORGET(i) };
  d_step { if :: f_!=0 && MINE(f_) -> claim=0 :: else fi; f_=0 }
}

proctype Sender(byte me) {
  byte a;
again:
  a=slot;                                                                /* look it up */
  if
  :: a!=0
#ifdef M_NO_SECOND_LOOK
  :: a==0 -> if :: d_step { made<NA -> made++; slot=made; a=made } :: made==NA -> goto done fi
#else
  :: a==0 -> if :: d_step { slot!=0 -> a=slot } :: d_step { slot==0 && made<NA -> made++; slot=made; a=made } :: slot==0 && made==NA -> goto done fi
#endif
  fi;
  if                                                                     /* enqueue, under the actor's lock */
#ifndef M_GONE_ACCEPTS
  :: d_step { phase[a]==gone -> FORGET(a); a=0 }; goto again
  :: d_step { phase[a]==releasing -> a=0 }; goto again
  :: d_step { phase[a]==live -> box[a]=box[a]|(1<<me); running[a]=1; a=0 }
#else
  :: d_step { box[a]=box[a]|(1<<me); running[a]=1; a=0 }
#endif
  fi;
  if
  :: d_step { (answered>>me)&1 -> skip }
  :: d_step { (moved>>me)&1 -> moved=moved&~(1<<me) }; goto again
  fi;
done: skip
}

proctype Work(byte i) {
  byte batch, f; bit ok;
end:
  do
  :: running[i] ->
     do
     :: d_step { box[i]!=0 -> batch=box[i]; box[i]=0 };
        do
        :: batch==0 -> break
        :: batch!=0 && !seen[i] ->                                        /* load */
           if
           :: d_step { claim!=2 -> fence++; claim=1; snapVer[i]=ver; snapFence[i]=fence; holds[i]=1; seen[i]=1; silent[i]=0 }
           :: d_step { claim==2 -> GO(i); running[i]=0;                     /* held elsewhere: everybody is told */
#ifdef M_MAIL_LEFT
                answered=answered|batch;
#else
                answered=answered|batch|box[i];
#endif
                box[i]=0; batch=0 };
              finish(i,f); goto end
           fi
        :: batch!=0 && seen[i] -> silent[i]=1;                            /* append */
           d_step { ok=(fence==snapFence[i] && ver==snapVer[i]); if :: ok -> ver++ :: else fi };
           if
           :: d_step { ok -> snapVer[i]++; silent[i]=0; answered=answered|batch; batch=0; ok=0 }
           :: d_step { !ok -> seen[i]=0; silent[i]=0 }
           fi
        od
     :: d_step { box[i]==0 && phase[i]==releasing -> running[i]=0; GO(i) }; finish(i,f); goto end
     :: d_step { box[i]==0 && phase[i]!=releasing -> running[i]=0 }; break
     od
  od
}

/* Passivation, eviction, hand-off. */
proctype Sweeper(byte i) {
  byte f;
end:
  do
#ifdef M_CHECK_THEN_MARK
  :: d_step { made>=i && phase[i]==live && !running[i] -> skip }; d_step { GO(i) }; finish(i,f); break
#else
  :: d_step { made>=i && phase[i]==live && !running[i] -> GO(i) }; finish(i,f); break
#endif
  :: d_step { made>=i && phase[i]==live && running[i] -> phase[i]=releasing; moved=moved|box[i]; box[i]=0 }; break
  od
}

proctype Other() {
  byte n;
end:
  do
  :: d_step { n<OTHERS && claim==0 -> n++; fence++; claim=2 };
     d_step { if :: claim==2 -> ver++ :: else fi };
     d_step { if :: claim==2 -> claim=0 :: else fi }
  od
}

#define STALE(i) (seen[i] && !silent[i] && snapVer[i]!=ver)
proctype Reader() {
end:
  do
  :: d_step { STALE(1) || STALE(2) || STALE(3) -> assert(false) }
  od
}

init { atomic {
  run Sender(0); run Sender(1);
  run Work(1); run Work(2); run Work(3);
  run Sweeper(1); run Sweeper(2); run Sweeper(3);
  run Other(); run Reader()
} }
